import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { describeOnAnyEngine, describeOnEachEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { Stage } from '../support/stage.js';

const ONE = { WORKER_MEMORY_MIB: '256', DEFAULT_TIMEOUT_MS: '20000', SCALE_INTERVAL_MS: '100' };
const OTHER = { ...ONE, WORKER_MEMORY_MIB: '320', DEFAULT_TIMEOUT_MS: '25000' };
/** Each worker has a name of its own. */
const WHO = 'import uuid\n\nME = uuid.uuid4().hex\n\n\ndef handle(payload):\n    return ME\n';
/** Longer than two managers that undo each other's work would take to do it again. */
const QUARREL_MS = 4_000;

describeOnEachEngine('managers with different settings', (engine) => {
  const stage = Stage.on(engine, ONE);

  it('move functions to the newest ones once, and back, without a failed call', { timeout: 180_000 }, async () => {
    const { id } = await stage.manager.add(WHO, { min_replicas: 1, idle_timeout_ms: 0 });
    const detail = async () => (await stage.manager.send(`/functions/${id}`)).json() as Record<string, unknown>;
    const failures: string[] = [];
    const calling = new AbortController();
    const call = async (manager: typeof stage.manager) => {
      while (!calling.signal.aborted) {
        const answer = await manager.call(id, 'hello');
        if (answer.status !== 200) failures.push(answer.text);
        await delay(20);
      }
    };
    const callers = [call(stage.manager)];
    const who = async () => ((await stage.manager.call(id)).json() as { result: string }).result;
    const known = [await who()];
    /** Waits until a new worker has taken the former one's place, and sees whether it keeps it. */
    const replaced = async (timeoutMs: number) => {
      await vi.waitFor(
        async () => {
          expect(await stage.room.workers()).toHaveLength(1);
          expect(known).not.toContain(await who());
          expect(await detail()).toMatchObject({ status: 'running', ready_replicas: 1, timeout_ms: timeoutMs });
        },
        { timeout: 60_000, interval: 100 },
      );
      const one = await who();
      known.push(one);
      const end = performance.now() + QUARREL_MS;
      while (performance.now() < end) {
        expect(await who()).toBe(one);
        await delay(100);
      }
    };

    const newer = await stage.start(OTHER);
    callers.push(call(newer));
    await replaced(25_000);
    // Going back is starting the former settings again.
    const again = await stage.start(ONE);
    callers.push(call(again));
    await replaced(20_000);

    calling.abort();
    await Promise.all(callers);
    expect(failures).toEqual([]);
    await stage.manager.remove(id);
    for (const manager of [newer, again]) await manager.stop();
  });
});

describeOnAnyEngine('a manager with former settings', (engine) => {
  const stage = Stage.on(engine, ONE);

  describe('beside one with newer ones', () => {
    it('still takes uploads, calls and removals, and what uploads have said stays', { timeout: 60_000 }, async () => {
      const said = await stage.manager.add(ECHO, { timeoutMs: 7_000, idle_timeout_ms: 0 });
      const newer = await stage.start(OTHER);
      await vi.waitFor(() => expect(stage.manager.log).toContain('a manager with other settings has been started'), {
        timeout: 10_000,
      });
      const asleep = await stage.manager.add(ECHO, { idle_timeout_ms: 300 });
      await vi.waitFor(
        async () => expect((await newer.send(`/functions/${asleep.id}`)).json()).toMatchObject({ status: 'idle' }),
        { timeout: 20_000 },
      );
      expect((await stage.manager.call(asleep.id, 'woken')).text).toBe('{"result":"woken"}');
      expect((await stage.manager.send(`/functions/${said.id}`)).json()).toMatchObject({ timeout_ms: 7_000 });
      expect((await stage.manager.call(said.id, 'said')).text).toBe('{"result":"said"}');
      for (const { id } of [said, asleep]) expect((await stage.manager.remove(id)).status).toBe(204);
      await newer.stop();
    });

    it('goes on acting while the engine of that one does not answer', { timeout: 60_000 }, async () => {
      // Others than those that the test before has left, so that these are newer.
      const faulty = await stage.start({ ...OTHER, WORKER_MEMORY_MIB: '330', ...stage.room.nowhere });
      const { id } = await stage.manager.add(ECHO);
      expect((await stage.manager.call(id, 'as before')).text).toBe('{"result":"as before"}');
      expect((await stage.manager.send(`/functions/${id}`)).json()).toMatchObject({ timeout_ms: 20_000 });
      expect((await stage.manager.remove(id)).status).toBe(204);
      await faulty.stop();
    });

    it('acts upon functions again once that one is gone', { timeout: 120_000 }, async () => {
      const newer = await stage.start({ ...OTHER, WORKER_MEMORY_MIB: '300' });
      await newer.stop();
      const { id } = await stage.manager.add(ECHO);
      expect((await stage.manager.call(id, 'still here')).text).toBe('{"result":"still here"}');
      expect((await stage.manager.remove(id)).status).toBe(204);
    });
  });
});
