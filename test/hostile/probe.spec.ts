import { Notifications } from '#libs/database/notifications.js';
import { kindOf, specialise } from '#libs/orchestrator/generic-worker.js';
import { getHealth, HealthProber, probeHealth } from '#libs/orchestrator/health-probe.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { OrphanedWorkers } from '#libs/orchestrator/orphaned-workers.js';
import { type PoolMember, WarmPool } from '#libs/orchestrator/warm-pool.js';
import { requestOfWorker } from '#libs/orchestrator/worker-request.js';
import { pino } from 'pino';
import { describe, expect, it, vi } from 'vitest';
import { Cancellation } from '../../apps/manager/src/gateway/cancellation.js';
import { PostMortem } from '../../apps/manager/src/gateway/post-mortem.js';
import { FunctionChanges } from '../../apps/manager/src/functions/function-changes.js';
import type { FunctionRepository } from '../../apps/manager/src/functions/function.repository.js';
import { EVERY_ATTACK, HostilePeer } from './support/hostile-peer.js';

const TIMEOUT_MS = 300;
/** For a busy machine. */
const MARGIN_MS = 3_000;
const silent = pino({ level: 'silent' });

describe.each(EVERY_ATTACK)('a peer that %s', (attack) => {
  const against = async (ask: (peer: HostilePeer) => Promise<unknown>, mostMs = TIMEOUT_MS) => {
    await using peer = await HostilePeer.listen(attack);
    const before = process.memoryUsage().rss;
    const began = performance.now();
    await ask(peer);
    expect(performance.now() - began).toBeLessThan(mostMs + MARGIN_MS);
    expect(peer.asked).toBeGreaterThan(0);
    // The peer's own buffers among it, as it floods from this very process.
    expect(process.memoryUsage().rss - before).toBeLessThan(192 * 2 ** 20);
    await vi.waitFor(() => expect(peer.connected).toBe(0));
  };

  it('ends no request but its own, and keeps no connection', async () => {
    await against(async ({ address }) => {
      const asking = requestOfWorker({ address, path: '/health', timeoutMs: TIMEOUT_MS });
      await expect(asking).rejects.toBeInstanceOf(Error);
    });
  });

  it('has no health', async () => {
    await against(async ({ address }) => {
      expect(await getHealth(address, TIMEOUT_MS)).toBeNull();
      expect(await probeHealth(address, TIMEOUT_MS)).toEqual({ good: false, guard: undefined });
    });
  });

  it('is no generic worker, and can’t be given a function', async () => {
    await against(async ({ address }) => {
      expect(await kindOf(address, 'its token', TIMEOUT_MS)).toBe('silent');
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const large = Buffer.alloc(4 * 2 ** 20, 35);
      await expect(specialise(address, 'token', { environment: {}, code: large }, signal)).rejects.toBeInstanceOf(
        Error,
      );
    });
  });

  it('leaves the pool that it was in, and doesn’t keep it from closing', async () => {
    await using peer = await HostilePeer.listen('waits for a function');
    const member: PoolMember = { id: 'member', address: peer.address, token: 'token', call: TEST_TOKENS.issue() };
    const start = vi.fn().mockResolvedValueOnce(member).mockRejectedValue(new Error('no more'));
    const remove = vi.fn(() => Promise.resolve());
    const room = () => Promise.resolve(Infinity);
    const pool = new WarmPool({ start, remove, room }, 1, silent, 400);
    pool.start();
    await vi.waitFor(() => expect(pool.counts().ready).toBe(1));
    peer.behaviour = attack;
    await vi.waitFor(() => expect(remove).toHaveBeenCalledWith(member), { timeout: 2_000 + MARGIN_MS });
    expect(pool.counts().ready).toBe(0);
    await pool.close();
    await vi.waitFor(() => expect(peer.connected).toBe(0));
  });

  it('is an orphan after its time', async () => {
    await against(async ({ address }) => {
      const orphans = new OrphanedWorkers(TIMEOUT_MS);
      expect(await orphans.has('it', address)).toBe(false);
      await vi.waitFor(async () => expect(await orphans.has('it', address)).toBe(true), { timeout: MARGIN_MS });
    }, MARGIN_MS);
  });

  it('keeps no caller who leaves during a post mortem', async () => {
    await using peer = await HostilePeer.listen(attack);
    const { postMortem, endpoint } = withEngineThatSawNothing(peer);
    const cancellation = new Cancellation();
    const examining = postMortem.of('function', endpoint, new Date(), cancellation, 'other side closed');
    await vi.waitFor(() => expect(peer.asked).toBe(1));
    const began = performance.now();
    cancellation.cancel();
    expect(await examining).toMatchObject({ name: /^(CallCancelled|WorkerCrashed)$/ });
    expect(performance.now() - began).toBeLessThan(2_000);
    await vi.waitFor(() => expect(peer.connected).toBe(0));
  });

  it('is not ready to who waits for its first probe', async () => {
    await against(async ({ address }) => {
      const prober = new HealthProber(() => undefined);
      prober.track('replica', 'function', address);
      await prober.probed('replica');
      expect(prober.health('replica')).toBe('starting');
      prober.close();
    });
  });
});

it('keeps no caller who stays for longer than a post mortem takes, whatever a peer does', async () => {
  await Promise.all(
    EVERY_ATTACK.map(async (attack) => {
      await using peer = await HostilePeer.listen(attack);
      const { postMortem, endpoint } = withEngineThatSawNothing(peer);
      const began = performance.now();
      const found = await postMortem.of('function', endpoint, new Date(), new Cancellation(), 'other side closed');
      expect(performance.now() - began).toBeLessThan(7_000 + MARGIN_MS);
      expect(found).toMatchObject({ code: 'worker_crashed', extras: { reason: 'unknown' } });
      expect(found.message).toMatch(/ended while it ran the call: .*\(other side closed\)/);
      await vi.waitFor(() => expect(peer.connected).toBe(0));
    }),
  );
});

it('does not become an honest worker by saying for ever that it waits for a function', async () => {
  await using peer = await HostilePeer.listen('waits for a function');
  const orphans = new OrphanedWorkers(60_000, TIMEOUT_MS);
  expect(await orphans.has('it', peer.address)).toBe(false);
  await vi.waitFor(async () => expect(await orphans.has('it', peer.address)).toBe(true));
  // Another one that has its place begins anew.
  orphans.keep(new Set());
  expect(await orphans.has('it', peer.address)).toBe(false);
});

function withEngineThatSawNothing({ address }: HostilePeer) {
  const repository = { find: () => Promise.resolve({ lastFault: null }) } as unknown as FunctionRepository;
  const changes = new FunctionChanges(new Notifications('postgres://nowhere', silent));
  return { postMortem: new PostMortem(repository, changes, TEST_TOKENS), endpoint: { replica: 'replica', address } };
}
