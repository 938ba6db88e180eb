import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import { describeOnAnyEngine } from '../support/engines.js';
import { patternOf, runExamples } from '../support/examples.js';
import { expectAsDocumented } from '../support/document.js';
import { expectProblem } from '../support/http.js';
import { newKey } from '../support/secrets.js';
import { Stage } from '../support/stage.js';
import { wheel } from '../support/wheels.js';

interface Media {
  readonly schema?: Schema;
  readonly example?: unknown;
  readonly examples?: Record<string, { readonly $ref: string }>;
}
interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly items?: Schema;
  readonly allOf?: Schema[];
  readonly anyOf?: Schema[];
  readonly example?: unknown;
  readonly properties?: Record<string, Schema>;
  readonly required?: string[];
}
interface Parameter {
  readonly in: string;
  readonly required?: boolean;
  readonly schema: Schema;
}
interface Operation {
  readonly operationId?: string;
  readonly summary?: string;
  readonly tags?: string[];
  readonly parameters?: Parameter[];
  readonly requestBody?: { readonly content: Record<string, Media> };
  readonly responses: Record<
    string,
    { readonly description?: string; readonly content?: Record<string, Media>; readonly headers?: object }
  >;
}
interface Document {
  readonly info: { readonly description: string };
  readonly paths: Record<string, Record<string, Operation>>;
  readonly servers: { readonly url: string }[];
  readonly components: {
    readonly schemas: Record<string, Schema>;
    readonly examples: Record<string, { readonly value: Record<string, unknown> }>;
    readonly securitySchemes: Record<string, object>;
  };
}

const committed = JSON.parse(await readFile('openapi.json', 'utf8')) as Document;
const operations = Object.entries(committed.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ title: `${method.toUpperCase()} ${path}`, operation })),
);
const problemsOf = ({ responses }: Operation) =>
  Object.entries(responses).flatMap(([status, { content }]) =>
    Object.entries(content?.['application/problem+json']?.examples ?? {}).map(([code, { $ref }]) => ({
      status,
      code,
      value: committed.components.examples[$ref.split('/').at(-1)!]!.value,
    })),
  );

/** The error table, by operation. */
const PROMISED: Record<string, string[]> = {
  addFunction: [
    '400 invalid_upload',
    '401 unauthorized',
    '409 secret_unreadable',
    '403 forbidden',
    '403 foreign_origin',
    '413 upload_too_large',
    '415 unsupported_encoding',
    '429 manager_overloaded',
    '429 too_many_attempts',
    '422 handler_not_loadable',
    '500 internal_error',
    '503 database_unavailable',
    '503 function_not_ready',
    '503 orchestrator_unavailable',
  ],
  executeFunction: [
    '400 invalid_payload',
    '401 unauthorized',
    '403 forbidden',
    '403 foreign_origin',
    '404 function_not_found',
    '409 function_not_runnable',
    '413 payload_too_large',
    '415 unsupported_encoding',
    '429 function_overloaded',
    '429 manager_overloaded',
    '429 too_many_attempts',
    '500 handler_error',
    '500 handler_result_invalid',
    '500 internal_error',
    '502 worker_crashed',
    '503 database_unavailable',
    '503 function_not_ready',
    '504 handler_timeout',
  ],
  invokeLater: [
    '400 invalid_payload',
    '400 invalid_invocation',
    '401 unauthorized',
    '404 function_not_found',
    '409 function_disabled',
    '409 idempotency_key_reused',
    '413 payload_too_large',
    '429 queue_full',
    '503 database_unavailable',
  ],
  getInvocation: ['401 unauthorized', '404 invocation_not_found', '503 database_unavailable'],
  cancelInvocation: ['404 invocation_not_found', '409 invocation_ended', '503 database_unavailable'],
  putSchedule: [
    '400 invalid_schedule',
    '401 unauthorized',
    '403 forbidden',
    '404 function_not_found',
    '409 too_many_schedules',
    '412 version_outdated',
    '413 payload_too_large',
    '503 database_unavailable',
  ],
  getSchedule: ['401 unauthorized', '404 schedule_not_found', '404 function_not_found', '503 database_unavailable'],
  removeSchedule: ['404 schedule_not_found', '412 version_outdated', '503 database_unavailable'],
  putSecret: [
    '400 invalid_secret',
    '401 unauthorized',
    '403 forbidden',
    '409 secrets_not_configured',
    '409 too_many_secrets',
    '429 manager_overloaded',
    '503 database_unavailable',
  ],
  removeSecret: ['400 invalid_secret', '404 secret_not_found', '409 secret_in_use', '503 database_unavailable'],
  listFunctions: [
    '400 invalid_page',
    '401 unauthorized',
    '403 forbidden',
    '429 too_many_attempts',
    '500 internal_error',
    '503 database_unavailable',
  ],
  getFunctionLogs: [
    '400 invalid_request',
    '401 unauthorized',
    '403 forbidden',
    '404 function_not_found',
    '429 too_many_attempts',
    '429 too_many_followers',
    '500 internal_error',
    '503 database_unavailable',
    '503 orchestrator_unavailable',
  ],
  removeFunction: [
    '401 unauthorized',
    '403 forbidden',
    '404 function_not_found',
    '429 too_many_attempts',
    '500 internal_error',
    '503 database_unavailable',
  ],
};

/** The package of docs/dependencies.md, for whichever user builds with it. */
const wheels = mkdtempSync(join(tmpdir(), 'faas-wheels-'));
chmodSync(wheels, 0o755);
const idna = wheel('idna', { files: { 'idna/__init__.py': 'def encode(text):\n    return text.encode("idna")\n' } });
writeFileSync(join(wheels, idna.file), idna.bytes, { mode: 0o644 });

describeOnAnyEngine('the documentation', (engine) => {
  const stage = Stage.on(engine, { SECRETS_KEYS: newKey('k1'), PYTHON_WHEELS_DIR: wheels });
  afterAll(() => rm(wheels, { recursive: true }));

  it('is shown by Swagger UI at /docs, with all that the page loads', async () => {
    const page = await stage.manager.send('/docs');
    expect(page.status).toBe(200);
    expect(page.headers['content-type']).toMatch(/^text\/html/);
    expect(page.text).toContain('<title>service-faas</title>');
    const parts = [...page.text.matchAll(/(?:src=|href=|url: )["']([^"']+)["']/g)].map(([, part]) => part!);
    expect(parts).toHaveLength(4);
    for (const part of parts) {
      expect({ part, status: (await stage.manager.send(part)).status }).toEqual({ part, status: 200 });
    }
    expect((await stage.manager.send('/docs/')).text).toBe(page.text);
  });

  it('fits a phone, leads to the document, and shows what a handler looks like', async () => {
    const page = await stage.manager.send('/docs');
    expect(page.text).toContain('<meta name="viewport" content="width=device-width, initial-scale=1">');
    expect(page.text).toContain('leaveFieldsEmpty');
    const { description } = committed.info;
    for (const [, path] of description.matchAll(/\]\((\/[^)]+)\)/g)) {
      expect((await stage.manager.send(path!)).status).toBe(200);
    }
    expect(description).toContain('(/docs/doc.json)');
    const code = /```python\n(.*?)```/s.exec(description)![1]!;
    const { id } = await stage.manager.add(code);
    const { example } = committed.components.schemas['ExecuteRequestDto']!.properties!['payload']!;
    const answer = await stage.manager.call(id, example as string);
    expect(answer.json()).toEqual(committed.components.schemas['ExecuteResponse']!.example);
    await stage.manager.remove(id);
  });

  const pages = [
    'functions',
    'http',
    'revisions',
    'background-calls',
    'schedules',
    'history',
    'dependencies',
    'secrets',
    'logs',
    'runs',
  ].map((name) => `docs/${name}.md`);
  it.each(['README.md', ...pages])('shows in %s what its examples print', async (page) => {
    const folder = await mkdtemp(join(tmpdir(), 'faas-examples-'));
    const examples = await runExamples(page, folder, (script) =>
      // What was printed a moment ago takes a moment to be in the log.
      script.replaceAll('http://localhost:8080', stage.manager.url).replaceAll(/^(?=curl .*\/logs)/gm, 'sleep 1; '),
    );
    const checked = examples.filter(({ shown }) => shown !== undefined);
    expect(checked.length).toBeGreaterThan(1);
    for (const { shown, printed } of checked) expect(printed).toMatch(patternOf(shown!));
    await rm(folder, { recursive: true });
    for (const { id } of (await stage.manager.send('/functions')).json() as { id: string }[]) {
      await stage.manager.remove(id);
    }
  });

  it('is served as JSON and as YAML, and is what was committed', async () => {
    const json = await stage.manager.send('/docs/doc.json');
    expect(json.headers['content-type']).toMatch(/^application\/json/);
    expect(json.json()).toEqual(committed);
    const yaml = await stage.manager.send('/docs/doc.yaml');
    expect(yaml.headers['content-type']).toMatch(/yaml/);
    expect(parse(yaml.text)).toEqual(committed);
  });

  it.each(operations)('names and tags $title, and shows an example of each of its answers', ({ operation }) => {
    expect(operation.operationId).toMatch(/^[a-z][A-Za-z]+$/);
    expect(operation.summary).toMatch(/\S/);
    expect(operation.tags).toHaveLength(1);
    const bodies = [operation.requestBody, ...Object.values(operation.responses)].flatMap((body) =>
      Object.values(body?.content ?? {}),
    );
    expect(bodies.length).toBeGreaterThan(0);
    for (const media of bodies) expect(withoutExample(media)).toEqual([]);
  });

  it.each(operations)('describes each answer of $title, with its request id', ({ operation }) => {
    for (const [status, { description, headers }] of Object.entries(operation.responses)) {
      expect({ status, description, headers }).toMatchObject({
        description: expect.stringMatching(/\S/) as string,
        headers: { 'X-Request-Id': expect.anything() as object },
      });
    }
  });

  it.each(operations)(
    'gives no example for what may be left out of $title: Swagger UI would send it',
    ({ operation }) => {
      const optional = (operation.parameters ?? []).filter(({ required }) => required !== true);
      for (const { schema } of optional) expect(schema).not.toHaveProperty('example');
      for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
        const { properties = {}, required = [] } = resolved(schema!);
        for (const [name, property] of Object.entries(properties)) {
          if (!required.includes(name)) expect(property).not.toHaveProperty('example');
        }
      }
    },
  );

  it('leaves the type of a result open, and says what keys are', () => {
    expect(Object.keys(committed.components.schemas['ExecuteResponse']!.properties!['result']!)).toEqual([
      'description',
    ]);
    expect(JSON.stringify(committed)).not.toContain('"additionalProperties":false');
    expect(committed.servers.map(({ url }) => url)).toEqual(['/']);
    expect(committed.components.securitySchemes).toMatchObject({
      bearer: { type: 'http', scheme: 'bearer' },
      api_key: { type: 'apiKey', in: 'header', name: 'X-Api-Key' },
    });
    expect(committed.components.securitySchemes['bearer']).not.toHaveProperty('bearerFormat');
  });

  it('describes functions, ready and failed, as they are answered', async () => {
    const { manager } = stage;
    const { id } = await manager.add('import os\ndef handle(payload):\n    os._exit(3)\n');
    const isAnswered = async () => (await manager.send(`/functions/${id}`)).json() as { last_error: object | null };
    const healthy = await isAnswered();
    expect(healthy).toMatchObject({ last_error: null, max_replicas: null });
    expectAsDocumented(healthy, 'FunctionDetailDto');
    expectProblem(await manager.call(id), 502, 'worker_crashed');
    for (const listed of (await manager.send('/functions')).json() as object[])
      expectAsDocumented(listed, 'FunctionDto');
    expectAsDocumented((await manager.send('/readyz')).json(), 'HealthDto');
    await manager.remove(id);
  });

  it.each(operations)('shows for every failure of $title a whole problem document', ({ operation }) => {
    for (const { status, code, value } of problemsOf(operation)) {
      expect(value).toMatchObject({
        type: `urn:service-faas:problem:${code}`,
        status: Number(status),
        code,
        detail: expect.any(String) as string,
        error: value['detail'],
        request_id: expect.any(String) as string,
      });
    }
    for (const status of ['429', '503']) {
      const response = operation.responses[status];
      if (response?.content?.['application/problem+json']) expect(response.headers).toHaveProperty('Retry-After');
    }
  });

  it.each(Object.entries(PROMISED))('promises the error table for %s', (id, promised) => {
    const { operation } = operations.find(({ operation: { operationId } }) => operationId === id)!;
    const shown = problemsOf(operation).map(({ status, code }) => `${status} ${code}`);
    expect(shown).toEqual(expect.arrayContaining(promised));
  });
});

/** What of a body has neither an example nor properties that all have one. */
function withoutExample(media: Media): string[] {
  if (media.example !== undefined || media.examples !== undefined) return [];
  return missing(media.schema ?? {}, 'body');
}

function resolved(schema: Schema): Schema {
  return schema.$ref === undefined ? schema : committed.components.schemas[schema.$ref.split('/').at(-1)!]!;
}

function missing(schema: Schema, at: string): string[] {
  if (schema.example !== undefined) return [];
  if (schema.$ref !== undefined) return missing(resolved(schema), at);
  if (schema.anyOf) return missing(schema.anyOf[0]!, at);
  if (schema.allOf) return schema.allOf.flatMap((part) => missing(part, at));
  if (schema.items) return missing(schema.items, `${at}[]`);
  if (!schema.properties) return schema.type === 'string' && at.endsWith('python_file') ? [] : [at];
  return (schema.required ?? []).flatMap((name) => missing(schema.properties![name]!, `${at}.${name}`));
}
