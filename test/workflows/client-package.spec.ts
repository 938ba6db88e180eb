import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { VERSION } from '#libs/config/version.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const PACKAGE = '.cache/client-package';

describe('The package of the client', () => {
  let project = '';
  beforeAll(async () => {
    await run(process.execPath, ['scripts/client-package.mjs']);
    project = await mkdtemp(join(tmpdir(), 'faas-client-'));
    await cp(PACKAGE, join(project, 'node_modules/service-faas-client'), { recursive: true });
  });
  afterAll(() => rm(project, { recursive: true, force: true }));

  it('has the version of everything else', () => {
    const versionIn = (path: string, pattern: RegExp) => pattern.exec(readFileSync(path, 'utf8'))?.[1];
    expect({
      client: versionIn(`${PACKAGE}/package.json`, /"version": "(.+)"/),
      document: versionIn('openapi.json', /"version": "(.+)"/),
      package: versionIn('package.json', /"version": "(.+)"/),
      worker: versionIn('apps/worker/pyproject.toml', /^version = "(.+)"/m),
    }).toEqual({ client: VERSION, document: VERSION, package: VERSION, worker: VERSION });
  });

  it('calls a manager from a project of plain JavaScript', async () => {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url} ${String(request.headers['x-api-key'])}`);
      response.setHeader('content-type', 'application/json').end('{"result": [1, null]}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const script = `
        import { executeFunction } from 'service-faas-client';
        import { createClient } from 'service-faas-client/client';
        const client = createClient({ baseUrl: '${baseUrl}', headers: { 'X-API-Key': 'secret' } });
        const { data } = await executeFunction({ client, path: { id: 'abcdefghijklmnop' }, body: { payload: 'x' } });
        console.log(JSON.stringify(data));
      `;
      const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: project });
      expect(stdout.trim()).toBe('{"result":[1,null]}');
      expect(asked).toEqual(['POST /functions/abcdefghijklmnop/execute secret']);
    } finally {
      server.close();
    }
  });
});
