import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ECHO } from '../support/handlers.js';
import { type Env, TestManager } from '../support/manager.js';
import { createSharedDatabase, dropSharedDatabase } from '../support/postgres.js';
import { upload } from '../support/uploads.js';
import { HostilePeer } from './support/hostile-peer.js';

const DRAIN_MS = 500;
/** For what hangs to be given up, part by part; docs/architecture.md tells of it. */
const REST_MS = 22_000;

let database: string;
beforeAll(async () => {
  database = await createSharedDatabase();
});
afterAll(() => dropSharedDatabase(database));

/** Between a manager and its database, until it stops passing anything on. */
class Line implements AsyncDisposable {
  private readonly sockets = new Set<Socket>();
  private constructor(private readonly server: Server) {}

  /** @param url names a database by the folder of its server's socket */
  static async to(url: string): Promise<Line> {
    const folder = decodeURIComponent(/@([^:/]+):/.exec(url)?.[1] ?? '');
    const line: Line = new Line(createServer((near) => line.join(near, `${folder}/.s.PGSQL.5432`)));
    line.server.listen(0, '127.0.0.1');
    await once(line.server, 'listening');
    return line;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  private join(near: Socket, path: string): void {
    const far = connect(path);
    for (const socket of [near, far]) {
      this.sockets.add(socket);
      socket.on('error', () => undefined);
    }
    near.pipe(far).pipe(near);
  }

  freeze(): void {
    for (const socket of this.sockets) socket.unpipe().pause();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }
}

describe('a manager that is told to leave', () => {
  /** With a pool that it can't fill. */
  const startOn = async ({ address }: HostilePeer, env: Env): Promise<TestManager> => {
    // Read by the engine's client itself.
    vi.stubEnv('DOCKER_HOST', `tcp://127.0.0.1:${(address as { readonly port: number }).port}`);
    const settings = { DEPLOYMENT_ENV: 'docker', WARM_POOL_SIZE: '1', DRAIN_TIMEOUT_MS: String(DRAIN_MS) };
    return (started = await TestManager.start({ ...settings, ...env }));
  };
  let started: TestManager | undefined;
  afterEach(async () => {
    vi.unstubAllEnvs();
    await started?.stop();
  });

  const leaves = async (manager: TestManager) => {
    const began = performance.now();
    await manager.stop();
    expect(performance.now() - began).toBeLessThan(DRAIN_MS + REST_MS);
  };

  it.each(['says nothing', 'switches protocols', 'sends one byte a second'] as const)(
    'does so while an engine that %s keeps its steps and sweeps waiting',
    async (behaviour) => {
      await using engine = await HostilePeer.listen(behaviour);
      const manager = await startOn(engine, { DATABASE_URL: database });
      const uploads = Array.from({ length: 4 }, () =>
        manager.send('/functions', { method: 'POST', ...upload(ECHO) }).catch(() => undefined),
      );
      await vi.waitFor(() => expect(engine.asked).toBeGreaterThan(1), 10_000);
      await leaves(manager);
      await Promise.all(uploads);
    },
    120_000,
  );

  it('does so while its database answers nobody', async () => {
    await using line = await Line.to(database);
    await using engine = await HostilePeer.listen('says nothing');
    const behindIt = database.replace(/@[^:/]+:\d+/, `@127.0.0.1:${line.port}`);
    const manager = await startOn(engine, { DATABASE_URL: behindIt });
    expect((await manager.send('/functions')).status).toBe(200);
    line.freeze();
    const asking = manager.send('/functions').catch(() => undefined);
    await leaves(manager);
    expect(manager.log).toMatch(/"part":"[^"]+".*given up at shutdown/);
    await asking;
  }, 120_000);
});
