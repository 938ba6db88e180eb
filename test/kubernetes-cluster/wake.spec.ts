import { describe, expect, it, vi } from 'vitest';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { PoolView } from '../kubernetes/support/pool-pods.js';
import { type Namespace, namespaceEngine } from './support/room.js';

const ECHO = 'def handle(payload):\n    return payload\n';
const ROUNDS = 20;
const SLOW = { timeout: 120_000, interval: 100 };
/** Measured much more; this is what nobody may lose without noticing. */
const LEAST_GAIN = 5;

describe('how long a call takes that wakes its function [kubernetes]', { timeout: 900_000 }, () => {
  let room: Namespace;
  const stage = Stage.on(namespaceEngine((opened) => (room = opened)));
  const pool = () => new PoolView(room.cluster);

  async function wakes(manager: TestManager, size: number): Promise<number[]> {
    // By then the function's own pod is there, as it is in real life.
    const { id } = await manager.add(ECHO, { idle_timeout_ms: 4_000 });
    const times: number[] = [];
    while (times.length < ROUNDS) {
      await vi.waitFor(async () => {
        expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({ status: 'idle' });
        expect(await room.cluster.of(id)).toEqual([]);
      }, SLOW);
      await pool().filled(size);
      const began = performance.now();
      const answer = await manager.call(id, 'x');
      times.push(performance.now() - began);
      expect([answer.status, answer.headers['x-cold-start']]).toEqual([200, 'true']);
    }
    await manager.remove(id);
    return times.toSorted((a, b) => a - b);
  }

  it('is many times less where a pod waits for it', async ({ annotate }) => {
    await stage.manager.stop();
    const cold = await stage.start({ SCALE_INTERVAL_MS: '100' });
    const without = await wakes(cold, 0);
    await cold.stop();
    const warm = await stage.start({ SCALE_INTERVAL_MS: '100', WARM_POOL_SIZE: '2' });
    const withPool = await wakes(warm, 2);
    await warm.stop();
    const median = (times: number[]) => times[times.length >> 1] ?? NaN;
    const shown = (times: number[]) =>
      [times[0], median(times), times.at(-1)].map((ms) => Math.round(ms ?? NaN)).join(' / ');
    await annotate(
      `wake, least / median / most of ${ROUNDS}: without a pool ${shown(without)} ms, with it ${shown(withPool)} ms`,
    );
    expect(median(without) / median(withPool)).toBeGreaterThan(LEAST_GAIN);
  });
});
