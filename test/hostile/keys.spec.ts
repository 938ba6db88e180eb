import { expect, it, vi } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { anAddress, type Answer, expectProblem, type Sent } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

const KEY = 'the-right-key-of-all';
const HELD = 4;
const EXECUTE = '/functions/aaaaaaaaaaaaaaaa/execute';

describeOnAnyEngine('whoever guesses keys', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: `ops:admin:${KEY}` });
  let guesses = 0;

  const guess = (manager: TestManager, from: string | undefined, path = '/functions'): Promise<Answer> => {
    guesses += 1;
    return manager.send(path, { from, headers: { 'X-Api-Key': `a-guessed-key-${guesses}` } });
  };
  const rightly = (manager: TestManager, from: string | undefined, path: string, sent: Sent = {}) =>
    manager.send(path, { ...sent, from, headers: { 'X-Api-Key': KEY } });
  const many = <T>(count: number, act: () => Promise<T>) => Promise.all(Array.from({ length: count }, act));
  /** Makes the delay of an address its longest, without waiting for the shorter ones one by one. */
  const anger = (manager: TestManager, from: string | undefined) => many(12, () => guess(manager, from));
  const refusals = async (manager: TestManager) => {
    const { text } = await rightly(manager, undefined, '/metrics');
    const samples = text.matchAll(/^faas_auth_refusals_total\{reason="(\w+)",scope="(\w+)"\} (\d+)$/gm);
    return new Map([...samples].map(([, reason, scope, count]) => [`${reason} ${scope}`, Number(count)]));
  };
  const linesOf = (manager: TestManager, text: string) =>
    manager.log.split('\n').filter((line) => line.includes('access refused') && line.includes(text));

  it('waits the longer for an answer the more keys were wrong', async () => {
    for (const atLeast of [100, 200, 400, 800]) {
      const began = performance.now();
      expectProblem(await guess(stage.manager, anAddress(0)), 401, 'unauthorized');
      expect(performance.now() - began).toBeGreaterThanOrEqual(atLeast - 5);
    }
  });

  it('keeps nobody else waiting: not who has a right key behind the same address, nor who has none', async () => {
    const from = anAddress(1);
    await anger(stage.manager, from);
    let answered = 0;
    const held = many(HELD, () => guess(stage.manager, from).finally(() => (answered += 1)));
    await vi.waitFor(async () => expectProblem(await guess(stage.manager, from), 429, 'too_many_attempts'));
    expect((await rightly(stage.manager, from, '/functions')).status).toBe(200);
    const call = await rightly(stage.manager, from, EXECUTE, { method: 'POST', body: '{"payload":""}' });
    expectProblem(call, 404, 'function_not_found');
    expectProblem(await stage.manager.send('/functions', { from }), 401, 'unauthorized');
    expect((await stage.manager.send('/livez', { from })).status).toBe(200);
    expect(answered).toBe(0);
    for (const answer of await held) expectProblem(answer, 401, 'unauthorized');
  });

  it.each([...['/functions', EXECUTE, '/metrics', '/healthz'].entries()])(
    'is cut off at every door once too many of its guesses wait (%i: %s)',
    async (index, path) => {
      const from = anAddress(2 + index);
      const method = path === EXECUTE ? 'POST' : 'GET';
      const answers = await many(20, () =>
        stage.manager.send(path, { method, from, headers: { Authorization: 'Bearer guessed' } }),
      );
      const [late, cutOff] = [401, 429].map((status) => answers.filter((answer) => answer.status === status));
      expect(late!.length + cutOff!.length).toBe(20);
      expect(late!.length).toBeGreaterThanOrEqual(HELD);
      expect(cutOff).not.toEqual([]);
      for (const answer of cutOff!) {
        expectProblem(answer, 429, 'too_many_attempts');
        expect(answer.headers.connection).toBe('close');
      }
    },
  );

  it('is counted to the last guess, and fills no log', async () => {
    const manager = await stage.start({ API_KEYS: KEY });
    const from = anAddress(90);
    const loggedBefore = manager.log.length;
    let answered = 0;
    const guessing = many(200, async () => {
      await guess(manager, from);
      answered += 1;
    });
    for (const { status } of await many(20, () => rightly(manager, from, '/functions'))) expect(status).toBe(200);
    await guessing;
    expect(answered).toBe(200);
    const counted = await refusals(manager);
    expect(counted.get('wrong_key deploy')! + counted.get('too_many_attempts deploy')!).toBe(200);
    expect(counted.get('wrong_key deploy')).toBeGreaterThanOrEqual(HELD);
    if (from !== undefined) expect(linesOf(manager, `"address":"${from}"`)).toHaveLength(5);
    await manager.stop();
    const summary = manager.log
      .slice(loggedBefore)
      .split('\n')
      .filter((line) => line.includes('further refusals were left out'));
    expect(summary.map((line) => JSON.parse(line) as object)).toMatchObject([
      { level: 'warn', lines: 195, clients: [{ lines: 195 }] },
    ]);
    // The guesses themselves, and the requests that they came with, stand nowhere.
    expect(manager.log.slice(loggedBefore)).not.toContain('a-guessed-key');
    expect(manager.log.slice(loggedBefore).length).toBeLessThan(40_000);
  });

  it('holds no manager up that leaves', async () => {
    const manager = await stage.start({ API_KEYS: KEY });
    const from = anAddress(91);
    await anger(manager, from);
    const began = performance.now();
    const held = many(HELD, () => guess(manager, from));
    await vi.waitFor(async () => expect((await guess(manager, from)).status).toBe(429));
    await manager.stop();
    for (const answer of await held) expectProblem(answer, 401, 'unauthorized');
    expect(performance.now() - began).toBeLessThan(4_500);
  });
});
