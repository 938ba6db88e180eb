import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { OneTimeToken } from './generic-worker.js';
import { TEST_TOKENS } from './testing/tokens.js';
import { type PoolMember, type PoolSource, WarmPool } from './warm-pool.js';

interface Worker extends PoolMember {
  readonly server: Server;
  readonly sha256: string;
  kind: 'generic' | 'serving';
  renewals: number;
}

/** Workers as little HTTP servers of this process. */
class Workers implements PoolSource<Worker> {
  readonly started: Worker[] = [];
  readonly removed: Worker[] = [];
  kind: Worker['kind'] = 'generic';
  memory = Infinity;
  isRefusing = false;
  /** So many end before they answer. */
  stillborn = 0;
  refusal: Error | undefined;
  gate: Promise<void> = Promise.resolve();

  async start({ token, sha256 }: OneTimeToken): Promise<Worker> {
    if (this.refusal !== undefined) throw this.refusal;
    const server = createServer((request, response) => {
      const isRenewal = request.headers['x-faas-lease'] === 'renew';
      if (isRenewal && request.headers['x-faas-token'] === worker.call.token) worker.renewals += 1;
      if (request.url === '/specialise') {
        response.writeHead(this.isRefusing ? 403 : 202).end();
        return;
      }
      response.writeHead(worker.kind === 'generic' ? 503 : 200);
      response.end(JSON.stringify({ status: worker.kind === 'generic' ? 'generic' : 'ok' }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const address = { kind: 'tcp', host: '127.0.0.1', port } as const;
    const call = TEST_TOKENS.issue();
    const worker: Worker = { id: `${port}`, address, token, call, sha256, server, kind: this.kind, renewals: 0 };
    this.started.push(worker);
    await this.gate;
    if (this.stillborn > 0) {
      this.stillborn -= 1;
      server.close();
    }
    return worker;
  }

  async remove(worker: Worker): Promise<void> {
    this.removed.push(worker);
    worker.server.closeAllConnections();
    worker.server.close();
  }

  async hasEnded({ server }: Worker): Promise<boolean> {
    return !server.listening;
  }

  mustWait = false;
  readonly processors = {
    share: () => {
      looks += 1;
      return idle;
    },
  };

  /** How many were ready when the pool last looked whether it lacks any. */
  readyWhenLooked = 0;

  async room(): Promise<number> {
    this.readyWhenLooked = pool?.counts().ready ?? 0;
    return this.memory - this.left.length;
  }

  get left(): Worker[] {
    return this.started.filter((worker) => !this.removed.includes(worker));
  }
}

const LEASE_MS = 120;
const logger = pino({ level: 'silent' });
let workers: Workers;
let pool: WarmPool<Worker> | undefined;
/** The share of the processors that has nothing to do. */
let idle = 1;
let looks = 0;

function open(
  size: number,
  prepare: (some: Workers) => void = () => undefined,
  leaseMs = LEASE_MS,
  longestWaitMs?: number,
): WarmPool<Worker> {
  workers = new Workers();
  idle = 1;
  prepare(workers);
  pool = new WarmPool(workers, size, logger, leaseMs, longestWaitMs);
  pool.start();
  return pool;
}

async function full(count: number): Promise<void> {
  await vi.waitFor(() => expect(workers.left.filter(({ id }) => pool?.has(id)).length).toBeGreaterThanOrEqual(count), {
    timeout: 5_000,
  });
}

afterEach(async () => {
  await pool?.close();
  for (const worker of workers.left) await workers.remove(worker);
});

describe('a pool of workers without a function', () => {
  it('keeps none while it rests, and fills again', async () => {
    const some = open(2);
    await full(2);
    some.rest(true);
    await vi.waitFor(() => expect(workers.left).toEqual([]));
    expect(some.counts()).toMatchObject({ ready: 0, target: 0 });
    some.rest(false);
    await full(2);
  });

  it('has as many ready as are configured, each with a token of its own', async () => {
    open(3);
    await full(3);
    expect(workers.left).toHaveLength(3);
    expect(new Set(workers.left.map(({ token }) => token)).size).toBe(3);
    expect(new Set(workers.left.map(({ sha256 }) => sha256)).size).toBe(3);
  });

  it('has a few ready at once, and as many as are configured when the processors are idle', async () => {
    open(6, () => (idle = 0.1));
    await full(4);
    // It asks again and again whether they are.
    const before = looks;
    await vi.waitFor(() => expect(looks).toBeGreaterThan(before + 1), { timeout: 5_000 });
    expect(workers.left).toHaveLength(4);
    idle = 0.9;
    await full(6);
  });

  it.each([
    ['half of them', 6, 100],
    ['all of them', 12, 80],
  ])('starts others only after a burst that takes %s', async (_which, taken, pauseMs) => {
    const some = open(12);
    await full(12);
    const began = workers.started.length;
    for (let asked = 0; asked < taken; asked += 1) {
      expect(some.take()).toBeDefined();
      await delay(pauseMs);
      expect(workers.started).toHaveLength(began);
    }
    await full(12);
  });

  it.each([200, 450])('starts others in a rush that goes on, with %i ms between two', async (interval) => {
    const some = open(12);
    await full(12);
    const began = workers.started.length;
    await vi.waitFor(
      () => {
        some.take();
        expect(workers.started.length).toBeGreaterThan(began);
      },
      { timeout: 6_000, interval },
    );
  });

  it('gives each away once and replaces it', async () => {
    const some = open(2);
    await full(2);
    const taken = [some.take(), some.take()];
    expect(new Set(taken).size).toBe(2);
    expect(taken).not.toContain(undefined);
    await full(2);
    for (const worker of taken) expect(some.has(worker?.id ?? '')).toBe(false);
    for (let more = some.take(); more !== undefined; more = some.take()) expect(taken).not.toContain(more);
    expect(workers.removed).toEqual([]);
  });

  it('has none at once when all are taken', async () => {
    const some = open(1);
    expect(some.take()).toBeUndefined();
    await full(1);
    expect(some.take()).toBeDefined();
    expect(some.take()).toBeUndefined();
  });

  it('grows with the demand, within bounds', async () => {
    const some = open(1);
    for (let asked = 0; asked < 9; asked += 1) some.take();
    await full(4);
    await vi.waitFor(() => expect(workers.left.every(({ renewals }) => renewals > 3)).toBe(true));
    expect(workers.left).toHaveLength(4);
  });

  it('has none where none are configured', async () => {
    const some = open(0);
    expect(some.take()).toBeUndefined();
    await some.close();
    expect(workers.started).toEqual([]);
  });

  it('starts no more than there is memory for', async () => {
    open(3, (some) => (some.memory = 1));
    await full(1);
    await vi.waitFor(() => expect(workers.started[0]?.renewals).toBeGreaterThan(3));
    expect(workers.started).toHaveLength(1);
  });

  it('gives back what there is no memory for any more', async () => {
    open(3);
    await full(3);
    workers.memory = 1;
    await vi.waitFor(() => expect(workers.left).toHaveLength(1));
    workers.memory = 3;
    await full(3);
  });

  it('replaces nothing while workers are being taken, for a moment', async () => {
    const some = open(12, undefined, 60_000);
    // It looks once more after the last one has come.
    await vi.waitFor(() => expect(workers.readyWhenLooked).toBe(12), { timeout: 5_000 });
    let longest = 0;
    for (let taken = 0, last = Date.now(); taken < 8; taken += 1) {
      expect(some.take()).toBeDefined();
      await delay(25);
      longest = Math.max(longest, Date.now() - last);
      last = Date.now();
      // On a machine that is too busy to take them in quick succession, there is nothing to see.
      if (longest < 50) expect(workers.started).toHaveLength(12);
    }
    await full(12);
  });

  it('lets replicas start first that wait for the processor', async () => {
    const some = open(2);
    await full(2);
    workers.mustWait = true;
    some.take();
    const renewed = workers.left.map(({ renewals }) => renewals);
    await vi.waitFor(() =>
      expect(Math.max(...workers.left.map(({ renewals }) => renewals))).toBeGreaterThan(Math.max(...renewed) + 4),
    );
    expect(workers.started).toHaveLength(2);
    workers.mustWait = false;
    await full(2);
  });

  it('renews the leases of those that wait', async () => {
    open(1);
    await full(1);
    await vi.waitFor(() => expect(workers.left[0]?.renewals).toBeGreaterThan(2));
  });

  it('replaces one that has ended, and one that somebody else has given a function', async () => {
    open(2);
    await full(2);
    const [ended, given] = workers.left;
    ended?.server.closeAllConnections();
    ended?.server.close();
    if (given !== undefined) given.kind = 'serving';
    await vi.waitFor(() => expect(workers.removed).toEqual(expect.arrayContaining([ended, given])));
    await full(2);
  });

  it('removes workers that can’t be given a function, and tries again later only', async () => {
    const some = open(1, (prepared) => (prepared.kind = 'serving'));
    await vi.waitFor(() => expect(workers.removed).toHaveLength(1));
    expect(some.take()).toBeUndefined();
    await expect(
      vi.waitFor(() => expect(workers.started.length).toBeGreaterThan(1), { timeout: 300 }),
    ).rejects.toThrow();
    workers.kind = 'generic';
    await full(1);
    expect(workers.removed).toHaveLength(1);
  });

  it('counts what it has, and how often there was a worker and how often there was none', async () => {
    const some = open(2);
    await full(2);
    expect(some.counts()).toEqual({ ready: 2, target: 2, hits: 0, misses: 0 });
    for (let asked = 0; asked < 5; asked += 1) some.take();
    expect(some.counts()).toEqual({ ready: 0, target: 2, hits: 2, misses: 3 });
    await vi.waitFor(() => expect(some.counts()).toMatchObject({ ready: 5, target: 5 }), { timeout: 5_000 });
  });

  it('wants no more than there is memory for', async () => {
    const some = open(3, (prepared) => (prepared.memory = 1));
    await full(1);
    expect(some.counts()).toMatchObject({ ready: 1, target: 1 });
  });

  it('tells how long taking a worker and giving it its function took, when they succeeded', async () => {
    const some = open(1);
    const stages: string[] = [];
    some.onStage((stage, ms) => {
      expect(ms).toBeGreaterThan(0);
      stages.push(stage);
    });
    const signal = AbortSignal.timeout(5_000);
    await full(1);
    await some.specialise(some.take() as Worker, { environment: {} }, signal);
    expect(stages).toEqual(['take', 'specialise']);
    await full(1);
    workers.isRefusing = true;
    await expect(some.specialise(some.take() as Worker, { environment: {} }, signal)).rejects.toThrow('403');
    expect(stages).toEqual(['take', 'specialise', 'take']);
  });

  it('goes on when the engine is back', async () => {
    open(1, (some) => (some.refusal = new Error('away')));
    await vi.waitFor(() => expect(workers.started).toEqual([]));
    workers.refusal = undefined;
    await full(1);
  });

  it('starts another one soon when one ends before it answers', async () => {
    open(1, (some) => (some.stillborn = 1));
    await full(1);
    expect(workers.removed).toHaveLength(1);
  });

  it('replaces one after the other those that have waited for long', async () => {
    open(2, undefined, LEASE_MS, 300);
    await full(2);
    const first = [...workers.left];
    await vi.waitFor(() => expect(workers.removed).toEqual(expect.arrayContaining(first)), { timeout: 5_000 });
    await full(2);
    expect(workers.left.some((one) => first.includes(one))).toBe(false);
  });

  it('leaves nothing when it is closed, not even what was on its way', async () => {
    const gate = Promise.withResolvers<void>();
    const some = open(3);
    await full(3);
    const taken = some.take();
    workers.gate = gate.promise;
    await vi.waitFor(() => expect(workers.started.length).toBeGreaterThan(3));
    const closed = some.close();
    gate.resolve();
    await closed;
    expect(workers.left.map(({ id }) => id)).toEqual([taken?.id]);
    expect(some.take()).toBeUndefined();
  });
});
