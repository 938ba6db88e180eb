import { VERSION } from '#libs/config/version.js';
import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import { PROBLEM_COMPONENTS } from '#libs/errors/api-problems.js';
import type { Request, RequestHandler, Response } from 'express';
import { createHash } from 'node:crypto';
import { stringify } from 'yaml';
import { EXECUTION_COMPONENTS } from './gateway/dto.js';

/** The page with and without a slash at its end, and its script. */
const MOST_TEXTS = 3;

const DESCRIPTION = `Upload one Python file and run it as a function in an isolated, scalable worker.

Every failure is an RFC 9457 problem document with a stable \`code\`. Every answer carries \`X-Request-Id\`: the caller's own where one was sent that has up to 64 letters, digits, \`.\`, \`_\` or \`-\`.

An API key has a scope: \`deploy\` for all of \`functions\`, \`invoke\` for \`execution\`, \`metrics\` for \`/metrics\`, or \`admin\` for everything.`;

interface Answered {
  readonly responses: Record<string, { headers?: object }>;
}

const REQUEST_ID = {
  description: "The request's id, as it stands in the log.",
  schema: { type: 'string', maxLength: 64 },
};

export function openApiDocument(app: INestApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('service-faas')
    .setDescription(DESCRIPTION)
    .setVersion(VERSION)
    .setLicense('Apache-2.0', 'https://www.apache.org/licenses/LICENSE-2.0')
    .addServer('/', 'The manager that serves this document.')
    .addSecurity('bearer', { type: 'http', scheme: 'bearer', description: 'An API key.' })
    .addSecurity('api_key', { type: 'apiKey', in: 'header', name: 'X-Api-Key', description: 'An API key.' })
    .addSecurityRequirements('bearer')
    .addSecurityRequirements('api_key')
    .addTag('functions', 'Add, list, read and remove functions.')
    .addTag('execution', 'Run functions.')
    .addTag('health', 'Probes.')
    .addTag('metrics', 'What is counted and measured.')
    .build();
  config.components = {
    ...config.components,
    ...PROBLEM_COMPONENTS,
    schemas: { ...PROBLEM_COMPONENTS.schemas, ...EXECUTION_COMPONENTS.schemas },
    headers: { ...PROBLEM_COMPONENTS.headers, 'X-Request-Id': REQUEST_ID },
  };
  const document = SwaggerModule.createDocument(app, config);
  for (const { responses } of Object.values(document.paths).flatMap((path) => Object.values(path) as Answered[])) {
    for (const response of Object.values(responses)) {
      response.headers = { 'X-Request-Id': { $ref: '#/components/headers/X-Request-Id' }, ...response.headers };
    }
  }
  return document;
}

/**
 * Swagger UI at /docs, the document beside it as JSON and YAML. Everybody may read them, so all answers share the same
 * bytes, which are made once.
 */
export function serveDocs(app: INestApplication): void {
  const document = openApiDocument(app);
  const json = JSON.stringify(document);
  serveOnce(app, '/docs/doc.json', 'application/json', json);
  serveOnce(app, '/docs/doc.yaml', 'text/yaml', stringify(JSON.parse(json), { aliasDuplicateObjects: false }));
  app.use('/docs', shareTexts());
  SwaggerModule.setup('docs', app, document, { raw: false, customSiteTitle: 'service-faas' });
}

function serveOnce(app: INestApplication, path: string, type: string, text: string): void {
  const bytes = Buffer.from(text);
  const tag = `"${createHash('sha256').update(bytes).digest('base64url')}"`;
  const adapter = app.getHttpAdapter();
  adapter.get(path, (_: Request, response: Response) => response.type(type).set('ETag', tag).send(bytes));
}

/** Swagger UI keeps the few texts that it answers with; here they are kept as the bytes that are sent. */
function shareTexts(): RequestHandler {
  const known = new Map<string, Buffer>();
  return (_, response, next): void => {
    const { send } = response;
    response.send = (body: unknown): Response => {
      if (typeof body !== 'string' || response.statusCode !== 200) return send.call(response, body);
      const bytes = known.get(body) ?? Buffer.from(body);
      if (known.size < MOST_TEXTS) known.set(body, bytes);
      return send.call(response, bytes);
    };
    next();
  };
}
