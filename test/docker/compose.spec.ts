import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ComposeFile, containerOf, interpolate, type Project, readCompose } from './support/compose.js';
import { freePort } from '../support/http.js';
import { docker, ignoreMissing, removeNetwork, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';

const MANAGER_IMAGE = process.env['DOCKER_TEST_MANAGER_IMAGE'] ?? 'faas-manager:local';
const POSTGRES_IMAGE = process.env['DOCKER_TEST_POSTGRES_IMAGE'] ?? 'faas-postgres:test';
const SOCKET = '/var/run/docker.sock';

const GIVEN = { DOCKER_GID: '1' };

describe('docker-compose.yml', () => {
  it('has no secret but in files that are not here, and names what is missing', () => {
    expect(() => readCompose({})).toThrow(/DOCKER_GID/);
    const { services, secrets } = readCompose(GIVEN);
    expect(secrets).toEqual({
      api_keys: { file: './secrets/api_keys' },
      postgres_password: { file: './secrets/postgres_password' },
    });
    for (const { environment = {}, secrets: given = [] } of Object.values(services)) {
      for (const [name, value] of Object.entries(environment)) {
        if (/PASS|KEY/.test(name) && name.endsWith('_FILE'))
          expect(given.map((one) => `/run/secrets/${one}`)).toContain(value);
        else if (/PASS|KEY/.test(name)) expect(value, name).toBe('');
      }
    }
  });

  it.each(['docker-compose.yml', 'docker-compose.socket-proxy.yml'])('bounds all that %s runs', (path) => {
    const { services } = readCompose(GIVEN, path);
    for (const [name, service] of Object.entries(services)) {
      // The one is never run, the other only a change to what the first file has.
      if (service.profiles !== undefined || service.image === undefined) continue;
      expect(service, name).toMatchObject({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
        mem_limit: expect.stringMatching(/^\d+[mg]$/),
        pids_limit: expect.any(Number),
        logging: { driver: 'json-file', options: { 'max-size': '10m', 'max-file': '5' } },
      });
      for (const mount of service.tmpfs ?? []) expect(mount).toMatch(/:size=\d+m,.*noexec,nosuid,nodev/);
    }
  });

  it('publishes nothing beyond loopback', () => {
    const { services } = readCompose(GIVEN);
    for (const { ports = [] } of Object.values(services)) {
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    }
    expect(services['manager']?.environment?.['LISTEN_ADDR']).toBe('127.0.0.1:8080');
  });

  it('pins the public images it names', () => {
    const { services } = readCompose(GIVEN);
    expect(services['postgres']?.image).toMatch(/^postgres:\d+\.\d+-/);
  });

  it('reads variables as the compose command does', () => {
    expect(interpolate('$$A ${B:-c} ${D:-e} ${F}', { D: 'd' })).toBe('$A c d ');
  });
});

const reason = await whyNoDocker(MANAGER_IMAGE, POSTGRES_IMAGE, WORKER_IMAGE);

describe.skipIf(reason !== undefined)('the compose stack', { timeout: 120_000 }, () => {
  const name = `faas-compose-${randomBytes(4).toString('hex')}`;
  const folder = mkdtempSync(join(tmpdir(), 'faas-compose-'));
  const [key, password] = [24, 12].map((length) => randomBytes(length).toString('hex')) as [string, string];
  const AS_KEY = { 'X-Api-Key': key };
  let project: Project;
  let compose: ComposeFile;
  let base: string;

  beforeAll(async () => {
    const [listen, database] = await Promise.all([freePort(), freePort()]);
    base = `http://127.0.0.1:${listen}`;
    writeFileSync(join(folder, 'api_keys'), `${key}\n`, { mode: 0o444 });
    writeFileSync(join(folder, 'postgres_password'), `${password}\n`, { mode: 0o444 });
    compose = readCompose({
      SECRETS_DIR: folder,
      POSTGRES_IMAGE,
      POSTGRES_PORT: String(database),
      MANAGER_IMAGE,
      WORKER_IMAGE,
      LISTEN_ADDR: `127.0.0.1:${listen}`,
      DOCKER_GID: String(statSync(SOCKET).gid),
    });
    project = { name, network: `${name}_default`, secrets: compose.secrets };
    await docker.createNetwork({ Name: project.network, CheckDuplicate: true });
    for (const service of ['postgres', 'manager']) await up(service);
  }, 120_000);

  afterAll(async () => {
    for (const service of ['manager', 'postgres']) {
      await docker.getContainer(`${name}-${service}`).remove({ force: true, v: true }).catch(ignoreMissing);
    }
    await docker.getVolume(`${name}_database`).remove().catch(ignoreMissing);
    await removeNetwork(project.network);
    rmSync(folder, { recursive: true });
  });

  async function up(service: string): Promise<void> {
    const described = compose.services[service];
    if (described === undefined) throw new Error(`There is no service ${service}.`);
    const container = await docker.createContainer({
      name: `${name}-${service}`,
      ...containerOf(described, project),
    });
    await container.start();
    await healthy(service);
  }

  async function healthy(service: string): Promise<void> {
    const container = docker.getContainer(`${name}-${service}`);
    for (let tries = 0; tries < 240; tries += 1) {
      const { State: state } = await container.inspect();
      if (state.Health?.Status === 'healthy') return;
      if (!state.Running) break;
      await delay(250);
    }
    const log = (await container.logs({ stdout: true, stderr: true, tail: 40 })).toString();
    throw new Error(`${service} did not become healthy:\n${log}`);
  }

  it('runs a function from upload to removal, the manager a container among others', async () => {
    const form = new FormData();
    form.set('function_name', 'greet');
    form.set('python_file', new Blob(['def greet(payload: str):\n    return f"hi {payload}"\n']), 'handler.py');
    const added = await fetch(`${base}/functions`, { method: 'POST', headers: AS_KEY, body: form });
    const created = (await added.json()) as { id: string; host_port: number; container_id: string };
    expect(added.status, JSON.stringify(created)).toBe(201);
    try {
      expect((await docker.getContainer(created.container_id).inspect()).Name).toBe(`/faas-worker-${created.id}`);
      expect(created.host_port).toBe(0);
      const answer = await fetch(`${base}/functions/${created.id}/execute`, {
        method: 'POST',
        headers: { ...AS_KEY, 'Content-Type': 'application/json' },
        body: JSON.stringify({ payload: 'you' }),
      });
      expect(await answer.json()).toEqual({ result: 'hi you' });
    } finally {
      const removed = await fetch(`${base}/functions/${created.id}`, { method: 'DELETE', headers: AS_KEY });
      expect(removed.status).toBe(204);
    }
    await expect(docker.getContainer(created.container_id).inspect()).rejects.toMatchObject({ statusCode: 404 });
  });

  it.each([
    ['manager', 'node'],
    ['postgres', 'postgres'],
  ])(
    'lets %s have a read-only root, no capability and no way to new ones, as an ordinary user',
    async (service, user) => {
      const { HostConfig: host, Config: container } = await docker.getContainer(`${name}-${service}`).inspect();
      expect(host).toMatchObject({ ReadonlyRootfs: true, CapDrop: ['ALL'], SecurityOpt: ['no-new-privileges:true'] });
      expect(host.Memory).toBe(2 ** 30);
      expect(container.User).toBe(user);
    },
  );

  it('lets nobody in without a key, and shows none to whoever looks at its containers', async () => {
    expect((await fetch(`${base}/functions`)).status).toBe(401);
    expect((await fetch(`${base}/functions`, { headers: AS_KEY })).status).toBe(200);
    for (const service of ['manager', 'postgres']) {
      const { Config: container } = await docker.getContainer(`${name}-${service}`).inspect();
      for (const [secret, variable] of [
        [key, 'API_KEYS'],
        [password, 'POSTGRES_PASSWORD'],
      ] as const) {
        expect(container.Env.join('\n')).not.toContain(secret);
        expect(container.Env.filter((one) => one.startsWith(`${variable}=`))).toEqual([]);
      }
    }
  });

  it('ends the manager on request, with status 0', async () => {
    const container = docker.getContainer(`${name}-manager`);
    await container.stop({ t: 45 });
    expect((await container.inspect()).State.ExitCode).toBe(0);
  });
});
