import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ComposeFile, containerOf, interpolate, readCompose } from './support/compose.js';
import { docker, removeNetwork, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';

const MANAGER_IMAGE = process.env['DOCKER_TEST_MANAGER_IMAGE'] ?? 'faas-manager:local';
const POSTGRES_IMAGE = process.env['DOCKER_TEST_POSTGRES_IMAGE'] ?? 'faas-postgres:test';
const SOCKET = '/var/run/docker.sock';

const GIVEN = { POSTGRES_PASSWORD: 'x', DOCKER_GID: '1' };

describe('docker-compose.yml', () => {
  it('has no default password, and names what is missing', () => {
    expect(() => readCompose({ DOCKER_GID: '1' })).toThrow(/POSTGRES_PASSWORD/);
    expect(() => readCompose({ POSTGRES_PASSWORD: 'x' })).toThrow(/DOCKER_GID/);
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
  const project = { name, network: `${name}_default` };
  let compose: ComposeFile;
  let base: string;

  beforeAll(async () => {
    const [listen, database] = await Promise.all([freePort(), freePort()]);
    base = `http://127.0.0.1:${listen}`;
    compose = readCompose({
      POSTGRES_PASSWORD: randomBytes(12).toString('hex'),
      POSTGRES_IMAGE,
      POSTGRES_PORT: String(database),
      MANAGER_IMAGE,
      WORKER_IMAGE,
      LISTEN_ADDR: `127.0.0.1:${listen}`,
      DOCKER_GID: String(statSync(SOCKET).gid),
    });
    await docker.createNetwork({ Name: project.network, CheckDuplicate: true });
    for (const service of ['postgres', 'manager']) await up(service);
  }, 120_000);

  afterAll(async () => {
    for (const service of ['manager', 'postgres']) {
      await docker.getContainer(`${name}-${service}`).remove({ force: true, v: true }).catch(ignoreMissing);
    }
    await docker.getVolume(`${name}_database`).remove().catch(ignoreMissing);
    await removeNetwork(project.network);
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
    const added = await fetch(`${base}/functions`, { method: 'POST', body: form });
    const created = (await added.json()) as { id: string; host_port: number; container_id: string };
    expect(added.status, JSON.stringify(created)).toBe(201);
    try {
      expect((await docker.getContainer(created.container_id).inspect()).Name).toBe(`/faas-worker-${created.id}`);
      expect(created.host_port).toBe(0);
      const answer = await fetch(`${base}/functions/${created.id}/execute`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ payload: 'you' }),
      });
      expect(await answer.json()).toEqual({ result: 'hi you' });
    } finally {
      const removed = await fetch(`${base}/functions/${created.id}`, { method: 'DELETE' });
      expect(removed.status).toBe(204);
    }
    await expect(docker.getContainer(created.container_id).inspect()).rejects.toMatchObject({ statusCode: 404 });
  });

  it('lets the manager have a read-only root, no capability and no way to new ones', async () => {
    const { HostConfig: host, Config: container } = await docker.getContainer(`${name}-manager`).inspect();
    expect(host).toMatchObject({ ReadonlyRootfs: true, CapDrop: ['ALL'], SecurityOpt: ['no-new-privileges:true'] });
    expect(container.User).toBe('node');
  });

  it('ends the manager on request, with status 0', async () => {
    const container = docker.getContainer(`${name}-manager`);
    await container.stop({ t: 45 });
    expect((await container.inspect()).State.ExitCode).toBe(0);
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function ignoreMissing(error: { statusCode?: number }): void {
  if (error.statusCode !== 404) throw error;
}
