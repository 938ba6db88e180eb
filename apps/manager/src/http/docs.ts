import type { INestApplication } from '@nestjs/common';
import type { OpenAPIObject } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { createHash } from 'node:crypto';
// Not its main module, which runs the whole user interface.
import swaggerUiFolder from 'swagger-ui-dist/absolute-path.js';
import { stringify } from 'yaml';

const STYLE = 'swagger-ui.css';
const SCRIPT = 'swagger-ui-bundle.js';
const ICON = 'favicon-32x32.png';

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>service-faas</title>
<link rel="icon" type="image/png" href="/docs/${ICON}">
<link rel="stylesheet" href="/docs/${STYLE}">
<style>
body { margin: 0; }
.swagger-ui { overflow-wrap: break-word; overflow-x: hidden; }
.swagger-ui .opblock-summary-path { max-width: 100%; }
@media (max-width: 640px) {
  .swagger-ui .wrapper, .swagger-ui .scheme-container .schemes { padding: 0 8px; }
  .swagger-ui .info { margin: 16px 0; }
  .swagger-ui .opblock .opblock-section-header { flex-wrap: wrap; }
  .swagger-ui .opblock-summary-description { display: none; }
  .swagger-ui table, .swagger-ui tbody, .swagger-ui tr, .swagger-ui td { display: block; width: 100%; }
  .swagger-ui table thead { display: none; }
  .swagger-ui table tbody tr td { min-width: 0; max-width: none; padding: 4px 0; }
  .swagger-ui .parameters-col_description input, .swagger-ui .parameters-col_description select { max-width: 100%; }
}
</style>
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/${SCRIPT}"></script>
<script>
// It would make up a value for each field of a form, and send those that may be left out too, empty or not.
function leaveFieldsEmpty() {
  return {
    components: { ParameterIncludeEmpty: () => null },
    afterLoad() {
      const sample = this.fn.getSampleSchema;
      this.fn.getSampleSchema = (schema, type, ...more) =>
        type === false && !schema.has('example') ? '' : sample(schema, type, ...more);
    },
  };
}
SwaggerUIBundle({
  url: '/docs/doc.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  plugins: [leaveFieldsEmpty],
});
</script>
</body>
</html>
`;

/**
 * Swagger UI at /docs, the document beside it as JSON and YAML. Everybody may read them, so all answers share the same
 * bytes. They are made once, when somebody asks for the first time. That stops all else for some tenths of a second; made
 * at each start they would cost every manager as much, of which most are never asked.
 */
export function serveDocs(app: INestApplication, makeDocument: () => OpenAPIObject): void {
  const json = once(() => JSON.stringify(makeDocument()));
  serveText(app, '/docs', 'text/html', () => PAGE);
  serveText(app, '/docs/doc.json', 'application/json', json);
  const yaml = () => stringify(JSON.parse(json()), { aliasDuplicateObjects: false });
  serveText(app, '/docs/doc.yaml', 'text/yaml', yaml);
  const root = swaggerUiFolder();
  for (const name of [STYLE, SCRIPT, ICON]) {
    app.getHttpAdapter().get(`/docs/${name}`, (_: Request, response: Response) => response.sendFile(name, { root }));
  }
}

function serveText(app: INestApplication, path: string, type: string, makeText: () => string): void {
  const made = once(() => {
    const bytes = Buffer.from(makeText());
    return { bytes, tag: `"${createHash('sha256').update(bytes).digest('base64url')}"` };
  });
  app.getHttpAdapter().get(path, (_: Request, response: Response) => {
    const { bytes, tag } = made();
    response.type(type).set('ETag', tag).send(bytes);
  });
}

function once<T extends object | string>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}
