import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { docker, ignoreMissing, removeNetwork, whyNoDocker, WORKER_IMAGE } from '../docker/support/docker-tests.js';
import { ECHO } from '../support/handlers.js';
import { freePort, send } from '../support/http.js';
import { createSharedDatabase, dropSharedDatabase } from '../support/postgres.js';
import { upload } from '../support/uploads.js';

const MANAGER_IMAGE = process.env['DOCKER_TEST_MANAGER_IMAGE'] ?? 'faas-manager:local';
const SOCKET = '/var/run/docker.sock';
const MEMORY_BYTES = 512 * 1024 * 1024;
const CLIENTS = 16;
const PIPELINE = 'GET /docs/doc.json HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1_500);

const reason = await whyNoDocker(MANAGER_IMAGE, WORKER_IMAGE);

describe.skipIf(reason !== undefined)('a manager without keys that may have 512 MiB', () => {
  const name = `faas-hostile-${randomBytes(4).toString('hex')}`;
  let database: string;
  let base: string;

  beforeAll(async () => {
    database = await createSharedDatabase();
    const listen = `127.0.0.1:${await freePort()}`;
    base = `http://${listen}`;
    const databaseSocket = decodeURIComponent(/@([^:/]+):/.exec(database)?.[1] ?? '');
    const container = await docker.createContainer({
      name,
      Image: MANAGER_IMAGE,
      // As who may open the database's socket.
      User: '0:0',
      Env: [
        `LISTEN_ADDR=${listen}`,
        `DATABASE_URL=${database}`,
        'DEPLOYMENT_ENV=docker',
        `DOCKER_NETWORK=${name}`,
        `WORKER_IMAGE=${WORKER_IMAGE}`,
        'WARM_POOL_SIZE=0',
        'WORKER_FIREWALL=off',
      ],
      HostConfig: {
        NetworkMode: 'host',
        Memory: MEMORY_BYTES,
        MemorySwap: MEMORY_BYTES,
        Binds: [`${databaseSocket}:${databaseSocket}`, `${SOCKET}:${SOCKET}`],
        GroupAdd: [String(statSync(SOCKET).gid)],
      },
    });
    await container.start();
    await vi.waitFor(async () => expect((await send(`${base}/readyz`)).status).toBe(200), { timeout: 60_000 });
  });

  afterAll(async () => {
    await docker.getContainer(name).remove({ force: true, v: true }).catch(ignoreMissing);
    await removeNetwork(name);
    await dropSharedDatabase(database);
  });

  it('lives through sixteen clients that pipeline and read nothing, and serves others meanwhile', async () => {
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => pipelining(Number(new URL(base).port))));
    const added = await send(`${base}/functions`, { method: 'POST', ...upload(ECHO) });
    expect(added.status, added.text).toBe(201);
    const path = `${base}/functions/${(added.json() as { id: string }).id}`;
    for (let call = 0; call < 50; call += 1) {
      const answer = await send(`${path}/execute`, { method: 'POST', body: '{"payload":"x"}' });
      expect(answer.text).toBe('{"result":"x"}');
    }
    expect((await send(path, { method: 'DELETE' })).status).toBe(204);
    for (const client of clients) client.destroy();
    const { State: state } = await docker.getContainer(name).inspect();
    expect(state).toMatchObject({ Running: true, OOMKilled: false });
    expect((await send(`${base}/readyz`)).status).toBe(200);
  }, 120_000);
});

function pipelining(port: number): Promise<Socket> {
  const client = connect({ port, host: '127.0.0.1' }).pause();
  client.on('error', () => undefined);
  return new Promise((resolve) => client.on('close', () => resolve(client)).write(PIPELINE, () => resolve(client)));
}
