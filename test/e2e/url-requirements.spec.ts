import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { wheel } from '../support/wheels.js';

const uses = (name: string) => `import ${name}\ndef handle(payload):\n    return ${name}.VERSION\n`;

// Containers trust no authority of a test; what is decided, and what uv is told, is the same there.
describeOnProcesses('Packages named by URL', (engine) => {
  const folder = mkdtempSync(join(tmpdir(), 'faas-tls-'));
  const before = process.env['SSL_CERT_FILE'];
  const given = wheel('urlpkg', { version: '4.2' });
  let server: Server;
  let url: string;
  let manager: TestManager;
  const stage = Stage.on(engine);
  beforeAll(async () => {
    chmodSync(folder, 0o755);
    certify(folder);
    // Builds trust what the manager's machine does.
    process.env['SSL_CERT_FILE'] = join(folder, 'ca.pem');
    const [key, cert] = [readFileSync(join(folder, 'key.pem')), readFileSync(join(folder, 'cert.pem'))];
    server = createServer({ key, cert }, (request, response) => {
      const isThere = request.url === `/${given.file}`;
      response.writeHead(isThere ? 200 : 404).end(isThere ? given.bytes : 'unknown');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/${given.file}`;
    manager = await stage.start({ ALLOW_URL_REQUIREMENTS: 'true', PYTHON_WHEELS_DIR: folder });
  });
  afterAll(() => {
    if (before === undefined) delete process.env['SSL_CERT_FILE'];
    else process.env['SSL_CERT_FILE'] = before;
    server.close();
    rmSync(folder, { recursive: true });
  });

  const add = (requirements: string, by = manager) =>
    by.send('/functions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ code: uses('urlpkg'), function_name: 'handle', requirements }),
    });

  it('are refused unless the installation allows them, and repositories and files always', async () => {
    const refused = expectProblem(await add(`idna\nurlpkg @ ${url}`, stage.manager), 400, 'invalid_upload');
    expect(refused).toMatchObject({ field: 'requirements' });
    expect(refused.detail).toMatch(/line 2: .*names a URL.*ALLOW_URL_REQUIREMENTS/);
    for (const line of ['urlpkg @ git+https://example.org/a', 'urlpkg @ file:///etc/passwd', '-e .']) {
      expectProblem(await add(line), 400, 'invalid_upload');
    }
    const inCode = `# /// script\n# dependencies = ["urlpkg @ ${url}"]\n# ///\n${uses('urlpkg')}`;
    await expect(stage.manager.add(inCode)).rejects.toThrow(/invalid_upload/);
  });

  it('are installed, and have the hash of what was there in their lock', async () => {
    const answer = await add(`urlpkg @ ${url}`);
    expect(answer.status, answer.text).toBe(201);
    const { id } = answer.json() as { id: string };
    expect((await manager.call(id)).json()).toEqual({ result: '4.2' });
    const lock = (await manager.send(`/functions/${id}/revisions/1/lock`)).text;
    expect(lock).toBe(`urlpkg @ ${url} \\\n    --hash=sha256:${given.sha256}\n`);
    const again = await add(lock);
    expect(again.status, again.text).toBe(201);
    for (const one of [id, (again.json() as { id: string }).id]) await manager.remove(one);
  });

  it('must be what their hash says', async () => {
    const refused = expectProblem(
      await add(`urlpkg @ ${url}#sha256=${'0'.repeat(64)}`),
      422,
      'requirements_not_installable',
    );
    expect(refused.detail).toMatch(/[Hh]ash/);
  });
});

/** An authority, and what it says of this machine. */
function certify(folder: string): void {
  const openssl = (...options: string[]) =>
    execFileSync('openssl', options, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  writeFileSync(join(folder, 'leaf.cnf'), 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n');
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test authority', '-days', '2');
  openssl('req', ...key, '-keyout', 'key.pem', '-out', 'leaf.csr', '-subj', '/CN=127.0.0.1');
  const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'leaf.cnf', '-days', '2'];
  openssl('x509', '-req', '-in', 'leaf.csr', '-out', 'cert.pem', ...signed);
}
