import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { describeOnEachEngine } from '../support/engines.js';
import { form, field, file } from '../support/uploads.js';
import { Stage } from '../support/stage.js';

const ECHO = 'def handle(payload):\n    return payload\n';
const NAP = 'import time\n\n\ndef handle(payload):\n    time.sleep(float(payload))\n    return payload\n';

interface Detail {
  readonly status: string;
  readonly replicas: number;
  readonly ready_replicas: number;
}

describeOnEachEngine('scaling', (engine) => {
  // A cluster's own autoscaler takes replicas away again.
  const cluster = { HPA_DOWN_WINDOW_SECONDS: '1', HPA_DOWN_PODS: '4', HPA_DOWN_PERIOD_SECONDS: '1' };
  const stage = Stage.on(engine, {
    SCALE_INTERVAL_MS: '100',
    SCALE_DOWN_WINDOW_MS: '3000',
    MAX_REPLICAS: '4',
    ...cluster,
  });
  const detail = async (id: string) => (await stage.manager.send(`/functions/${id}`)).json() as Detail;
  const until = (id: string, wanted: Partial<Detail>, timeout = 40_000) =>
    vi.waitFor(async () => expect(await detail(id)).toMatchObject(wanted), { timeout, interval: 50 });
  const wakes = async () => Number((await stage.manager.send('/metrics')).text.match(/^faas_wakes_total (\d+)$/m)?.[1]);
  const workersOf = async () => (await stage.room.workers()).length;

  describe('of a function that nobody calls', () => {
    it('ends its replicas after its idle time, and the next call wakes it and is answered', async () => {
      const { id } = await stage.manager.add(ECHO, { idle_timeout_ms: 500 });
      await until(id, { status: 'idle', replicas: 0, ready_replicas: 0 });
      await vi.waitFor(async () => expect(await workersOf()).toBe(0), { timeout: 40_000 });
      const answer = await stage.manager.call(id, 'good morning');
      expect(answer.json()).toEqual({ result: 'good morning' });
      // The answer may be here before its replica is written down.
      await until(id, { status: 'running', replicas: 1, ready_replicas: 1 });
      await stage.manager.remove(id);
    });

    it('wakes once for five hundred calls at once, and loses none of those it lets in', async () => {
      // Long enough for the last of them to come before it falls asleep again.
      const { id } = await stage.manager.add(ECHO, { idle_timeout_ms: 3_000, max_replicas: 1, concurrency: 16 });
      await until(id, { status: 'idle' });
      const before = await wakes();
      const answers = await Promise.all(Array.from({ length: 500 }, () => stage.manager.call(id)));
      const byStatus = Map.groupBy(answers, ({ status }) => status);
      // Where they come slowly the queue has room for all of them.
      expect([200, 429]).toEqual(expect.arrayContaining([...byStatus.keys()]));
      expect(byStatus.get(200)?.length).toBeGreaterThanOrEqual(256);
      for (const refused of byStatus.get(429) ?? []) expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
      expect((await wakes()) - before).toBe(1);
      await stage.manager.remove(id);
    });

    it('stays awake for as long as a call lasts, however long that is', async () => {
      const { id } = await stage.manager.add(NAP, { idle_timeout_ms: 400, timeout_ms: 20_000 });
      const answer = await stage.manager.call(id, '3');
      expect(answer.json()).toEqual({ result: '3' });
      await until(id, { status: 'idle' });
      await stage.manager.remove(id);
    });

    it('never loses a call to falling asleep at that very moment', async () => {
      const { id } = await stage.manager.add(ECHO, { idle_timeout_ms: 300 });
      for (let round = 0; round < 5; round += 1) {
        // Around the moment it falls asleep: before, while its replica drains, and after.
        await delay(250 + 100 * round);
        expect((await stage.manager.call(id, String(round))).json()).toEqual({ result: String(round) });
      }
      await stage.manager.remove(id);
    }, 180_000);

    it('never sleeps with an idle time of 0, or with replicas to keep', async () => {
      const never = await stage.manager.add(ECHO, { idle_timeout_ms: 0 });
      const kept = await stage.manager.add(ECHO, { idle_timeout_ms: 200, min_replicas: 1 });
      const sleepy = await stage.manager.add(ECHO, { idle_timeout_ms: 200 });
      await until(sleepy.id, { status: 'idle' });
      expect(await detail(never.id)).toMatchObject({ status: 'running', ready_replicas: 1 });
      expect(await detail(kept.id)).toMatchObject({ status: 'running', ready_replicas: 1 });
      for (const { id } of [never, kept, sleepy]) await stage.manager.remove(id);
    });

    it('can be removed in its sleep', async () => {
      const { id } = await stage.manager.add(ECHO, { idle_timeout_ms: 200 });
      await until(id, { status: 'idle' });
      expect((await stage.manager.remove(id)).status).toBe(204);
    });
  });

  describe('of a function that many call', () => {
    it('adds replicas while calls wait, and takes them away afterwards without losing a call', async () => {
      const { id } = await stage.manager.add(NAP, { concurrency: 2, max_replicas: 3, idle_timeout_ms: 0 });
      const refusals: string[] = [];
      const [rush, over] = [new AbortController(), new AbortController()];
      const caller = async ({ signal }: AbortController) => {
        while (!signal.aborted) {
          const { status, text } = await stage.manager.call(id, '0.2');
          if (status !== 200) refusals.push(text);
        }
      };
      const callers = Array.from({ length: 8 }, (_, index) => caller(index === 0 ? over : rush));
      await until(id, { replicas: 3, ready_replicas: 3 }, 30_000);
      rush.abort();
      await vi.waitFor(
        async () => {
          const { replicas, ready_replicas: ready } = await detail(id);
          // A cluster's own autoscaler may take two away in one step.
          expect(engine.name === 'kubernetes' ? [1, 2] : [2]).toContain(replicas);
          expect(ready).toBe(replicas);
        },
        { timeout: 120_000, interval: 50 },
      );
      over.abort();
      await Promise.all(callers);
      expect(refusals).toEqual([]);
      await stage.manager.remove(id);
    }, 180_000);

    it('starts with the replicas to keep, and never has more than its limit', async () => {
      const { id } = await stage.manager.add(NAP, { min_replicas: 2, max_replicas: 2, concurrency: 1 });
      await until(id, { replicas: 2, ready_replicas: 2 });
      await Promise.all(Array.from({ length: 12 }, () => stage.manager.call(id, '0.2')));
      expect(await detail(id)).toMatchObject({ replicas: 2 });
      await stage.manager.remove(id);
    });
  });

  it.each([
    ['idle_timeout_ms', '-1'],
    ['idle_timeout_ms', '99999999999'],
    ['idle_timeout_ms', 'soon'],
    ['min_replicas', '1.5'],
    ['min_replicas', '1001'],
    ['max_replicas', '0'],
    ['concurrency', '0'],
    ['concurrency', '1e3'],
  ])('refuses an upload with %s=%s and says what is wrong with it', async (name, value) => {
    const sent = form(file(ECHO), field('function_name', 'handle'), field(name, value));
    const answer = await stage.manager.send('/functions', { method: 'POST', ...sent });
    expect(answer.status).toBe(400);
    expect(answer.json()).toMatchObject({ code: 'invalid_upload', field: name });
  });

  it.each([
    ['timeout_ms', '99999999999999999999', /at most 900000\.$/],
    ['idle_timeout_ms', '99999999999', /at most 2147483647\.$/],
  ])('names the most that %s may be', async (name, value, detail) => {
    const sent = form(file(ECHO), field('function_name', 'handle'), field(name, value));
    const answer = await stage.manager.send('/functions', { method: 'POST', ...sent });
    expect(answer.json()).toMatchObject({ status: 400, field: name, detail: expect.stringMatching(detail) as string });
  });

  // A cluster's scheduler minds its own memory.
  if (engine.name !== 'kubernetes')
    it('refuses to keep more replicas than the machine has memory for', async () => {
      const sent = form(file(ECHO), field('function_name', 'handle'), field('min_replicas', '1000'));
      const answer = await stage.manager.send('/functions', { method: 'POST', ...sent });
      expect(answer.json()).toMatchObject({
        status: 400,
        code: 'invalid_upload',
        field: 'min_replicas',
        detail: expect.stringContaining('REPLICAS_MEMORY_MIB') as string,
      });
    });

  it('refuses more replicas to keep than there may be', async () => {
    const fields = [field('min_replicas', '3'), field('max_replicas', '2')];
    const sent = form(file(ECHO), field('function_name', 'handle'), ...fields);
    const answer = await stage.manager.send('/functions', { method: 'POST', ...sent });
    expect(answer.json()).toMatchObject({ status: 400, code: 'invalid_upload', field: 'min_replicas' });
  });

  it('shows what was asked for', async () => {
    const asked = { idle_timeout_ms: 7_000, min_replicas: 1, max_replicas: 3, concurrency: 5 };
    const added = await stage.manager.add(ECHO, asked);
    expect(added).toMatchObject(asked);
    expect(await detail(added.id)).toMatchObject(asked);
    await stage.manager.remove(added.id);
  });
});
