import { VERSION } from '#libs/config/version.js';
import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';
import { PROBLEM_COMPONENTS } from '#libs/errors/api-problems.js';
import { EXECUTION_COMPONENTS } from './gateway/dto.js';
import { InvocationDto } from './invocations/dto.js';
import { RUN_COMPONENTS } from './runs/dto.js';

const DESCRIPTION = `Upload one Python file and run it as a function in an isolated, scalable worker. This document: [JSON](/docs/doc.json), [YAML](/docs/doc.yaml).

A handler is a function of the file that takes one parameter, the payload as a \`str\`. What it returns is the result, as JSON:

\`\`\`python
import json

def handle(payload: str):
    name = json.loads(payload)["name"]
    return {"greeting": f"Hello, {name}!"}
\`\`\`

\`async def\` works too. What the file does outside of functions runs once, when a worker loads it. What it prints goes to the worker's log.

Every failure is an RFC 9457 problem document with a stable \`code\`. Every answer carries \`X-Request-Id\`: the caller's own where one was sent that has up to 64 letters, digits, \`.\`, \`_\` or \`-\`.

An API key has a scope: \`deploy\` for all of \`functions\` and \`schedules\`, \`invoke\` for \`execution\` and \`invocations\`, \`metrics\` for \`/metrics\`, or \`admin\` for everything.`;

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
    .addTag('revisions', 'Update functions, and go back.')
    .addTag('secrets', 'Values that functions get and nobody is shown.')
    .addTag('execution', 'Run functions.')
    .addTag('runs', 'Run a file once.')
    .addTag('invocations', 'Run functions later, and see what became of it.')
    .addTag('schedules', 'Run functions at their times.')
    .addTag('health', 'Probes.')
    .addTag('metrics', 'What is counted and measured.')
    .build();
  config.components = {
    ...config.components,
    ...PROBLEM_COMPONENTS,
    schemas: { ...PROBLEM_COMPONENTS.schemas, ...EXECUTION_COMPONENTS.schemas, ...RUN_COMPONENTS.schemas },
    headers: { ...PROBLEM_COMPONENTS.headers, 'X-Request-Id': REQUEST_ID },
  };
  const document = SwaggerModule.createDocument(app, config);
  letResultBeAnything(document, InvocationDto.name);
  for (const { responses } of Object.values(document.paths).flatMap((path) => Object.values(path) as Answered[])) {
    for (const response of Object.values(responses)) {
      response.headers = { 'X-Request-Id': { $ref: '#/components/headers/X-Request-Id' }, ...response.headers };
    }
  }
  return document;
}

/** Whatever decorators say of a property, they give it a type, and a result may be any JSON. */
function letResultBeAnything({ components }: OpenAPIObject, name: string): void {
  const schema = components?.schemas?.[name] as { properties: { result: { type?: string } } };
  delete schema.properties.result.type;
}
