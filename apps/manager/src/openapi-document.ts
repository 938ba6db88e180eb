import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, type OpenAPIObject, SwaggerModule } from '@nestjs/swagger';

const DESCRIPTION = `Upload one Python file and run it as a function in an isolated, scalable worker.

Every failure is an RFC 9457 problem document with a stable \`code\`. Every answer carries \`X-Request-Id\`: the caller's own where one was sent.`;

export function openApiDocument(app: INestApplication): OpenAPIObject {
  const config = new DocumentBuilder()
    .setTitle('service-faas')
    .setDescription(DESCRIPTION)
    .setVersion('1.0')
    .setLicense('Apache-2.0', 'https://www.apache.org/licenses/LICENSE-2.0')
    .addBearerAuth({ type: 'http', scheme: 'bearer', description: 'An API key.' }, 'bearer')
    .addApiKey({ type: 'apiKey', in: 'header', name: 'X-Api-Key', description: 'An API key.' }, 'api_key')
    .addSecurityRequirements('bearer')
    .addSecurityRequirements('api_key')
    .addTag('functions', 'Add, list, read and remove functions.')
    .addTag('execution', 'Run functions.')
    .addTag('health', 'Probes.')
    .addTag('metrics', 'What is counted and measured.')
    .build();
  return SwaggerModule.createDocument(app, config);
}

/** Swagger UI at /docs, the document beside it as JSON and YAML. */
export function serveDocs(app: INestApplication): void {
  SwaggerModule.setup('docs', app, openApiDocument(app), {
    jsonDocumentUrl: 'docs/doc.json',
    yamlDocumentUrl: 'docs/doc.yaml',
    customSiteTitle: 'service-faas',
  });
}
