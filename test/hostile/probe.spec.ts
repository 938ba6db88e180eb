import { describe, expect, it, vi } from 'vitest';
import { kindOf, specialise } from '#libs/orchestrator/generic-worker.js';
import { getHealth, HealthProber, probeHealth } from '#libs/orchestrator/health-probe.js';
import { requestOfWorker } from '#libs/orchestrator/worker-request.js';
import { EVERY_ATTACK, HostilePeer } from './support/hostile-peer.js';

const TIMEOUT_MS = 300;
/** For a busy machine. */
const MARGIN_MS = 3_000;

describe.each(EVERY_ATTACK)('a peer that %s', (attack) => {
  const against = async (ask: (peer: HostilePeer) => Promise<unknown>) => {
    await using peer = await HostilePeer.listen(attack);
    const before = process.memoryUsage().rss;
    const began = performance.now();
    await ask(peer);
    expect(performance.now() - began).toBeLessThan(TIMEOUT_MS + MARGIN_MS);
    expect(peer.asked).toBeGreaterThan(0);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
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
      expect(await kindOf(address, true, TIMEOUT_MS)).toBe('silent');
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const large = Buffer.alloc(4 * 2 ** 20, 35);
      await expect(specialise(address, 'token', { environment: {}, code: large }, signal)).rejects.toBeInstanceOf(
        Error,
      );
    });
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
