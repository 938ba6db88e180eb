import { chmod, cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { FunctionDto } from '../client/index.js';
import { ON_CLUSTER } from '../support/engine.js';
import { describeOnEachEngine } from '../support/engines.js';
import { Stage } from '../support/stage.js';

const FOLDER = join(import.meta.dirname, '..', 'support', 'ordinary-python');
/** Packages that handlers of tests import; `npm test` installs them. */
const PACKAGES = join(import.meta.dirname, '..', '..', '.cache', 'handler-packages');
/** Within this the next good call of a handler is answered that has used something up. */
const RECOVERY_MS = 1_000;
const TRIES = 3;

interface Options {
  readonly name?: string;
  readonly concurrency?: number;
}

describeOnEachEngine('a handler as ordinary Python', (engine) => {
  const inContainers = engine.name === 'docker' || ON_CLUSTER;
  const stage = Stage.on(engine);
  const added: FunctionDto[] = [];
  afterAll(async () => void (await Promise.all(added.map(({ id }) => stage.manager.remove(id)))));

  const add = async (file: string, options: Options = {}, edit = (code: string) => code) => {
    const code = edit(await readFile(join(FOLDER, `${file}.py`), 'utf8'));
    const created = await stage.manager.add(code, { timeoutMs: 20_000, max_replicas: 1, ...options });
    added.push(created);
    return created.id;
  };
  const result = async (id: string, payload: unknown = '') => {
    const answer = await stage.manager.call(id, typeof payload === 'string' ? payload : JSON.stringify(payload));
    expect(answer.status, answer.text).toBe(200);
    return (answer.json() as { result: unknown }).result;
  };
  /** Once it is there, whatever stands before it in its line. */
  const expectLogged = (id: string, ...texts: string[]) =>
    vi.waitFor(
      async () => {
        const log = await stage.manager.logOf(id);
        for (const text of texts) expect(log.filter((line) => line.endsWith(text))).not.toEqual([]);
      },
      { timeout: 40_000, interval: 100 },
    );

  describe('has in every call what its file has set', () => {
    const LOADED = { digits: 40, rounding: 'ROUND_FLOOR', settings: { divide: 'raise' }, bound: null };
    const CALLER = { digits: 5, settings: { divide: 'raise', over: 'ignore' } };

    it.each(['handle', 'handle_async'])('and nothing of what calls before it have set (%s)', async (name) => {
      const id = await add('set_when_loaded', { name });
      expect(await result(id, { draw: true })).toMatchObject({ ...LOADED, is_seeded: true });
      expect(await result(id, { caller: 'alice' })).toMatchObject({ ...CALLER, bound: { caller: 'alice' } });
      expect(await Promise.all(Array.from({ length: 8 }, () => result(id, {})))).toEqual(
        Array.from({ length: 8 }, () => expect.objectContaining(LOADED) as unknown),
      );
    });

    it('and nothing of what calls beside it set', async () => {
      const id = await add('set_when_loaded');
      const callers = ['alice', 'bob'].map((caller) => result(id, { caller, meet: true }));
      const [alice, bob] = await Promise.all(callers);
      expect(alice).toMatchObject({ ...CALLER, bound: { caller: 'alice' } });
      expect(bob).toMatchObject({ ...CALLER, bound: { caller: 'bob' } });
      expect(await result(id, {})).toMatchObject(LOADED);
    });

    it('and, with one call at a time, what belongs to the thread that has loaded it', async () => {
      const id = await add('set_when_loaded', { concurrency: 1 });
      const here = { ...LOADED, connection: 'open', is_main_thread: true };
      expect(await Promise.all([1, 2, 3].map(() => result(id, {})))).toEqual(
        [1, 2, 3].map(() => expect.objectContaining(here) as unknown),
      );
    });
  });

  it('uses connections, loops and alarms of the main thread when one call runs at a time', async () => {
    const id = await add('main_thread', { concurrency: 1 });
    expect(await result(id, 'count')).toBe(1);
    expect(await result(id, 'loop')).toBe('slept');
    expect(await result(id, 'alarm')).toBe('given up');
    expect(await result(id, 'loop')).toBe('slept');
    expect(await result(id, 'count')).toBe(2);
  });

  it('forks while others print and log, and its children inherit no lock that is held', async () => {
    const id = await add('forking');
    const calls = Array.from({ length: 4 }, () => result(id, '30'));
    expect(await Promise.all(calls)).toEqual([[0], [0], [0], [0]]);
    await expectLogged(id, 'in the child 29');
  });

  it.each(['descriptors', 'locks', 'addresses', 'limit'])(
    'serves the next calls when one has used up: %s',
    async (what) => {
      const id = await add('keeping');
      await result(id, 'good');
      const times: number[] = [];
      while (times.length < TRIES && !times.some((time) => time <= RECOVERY_MS)) {
        await stage.manager.call(id, what);
        const began = performance.now();
        expect(await Promise.all([1, 2, 3, 4].map(() => result(id, 'sleep')))).toEqual([
          'good',
          'good',
          'good',
          'good',
        ]);
        times.push(performance.now() - began);
      }
      expect(Math.min(...times)).toBeLessThanOrEqual(RECOVERY_MS);
    },
  );

  it.each(['reconfigured', 'wrapped', 'detached'])('prints through a stream that its file has %s', async (how) => {
    const id = await add(`stdout_${how}`);
    expect(await result(id, 'once')).toBe('utf-8');
    expect(await result(id, 'again')).toBe('utf-8');
    await expectLogged(id, `${how}: grüße 你好 once`, `${how}: grüße 你好 again`);
    if (how === 'detached') await expectLogged(id, 'reopened: grüße 你好 again');
  });

  it('prints on after redirections that overlapped', async () => {
    const id = await add('streams');
    const first = result(id, 'redirect 0.4');
    await vi.waitFor(async () => expect(await result(id, 'who')).toBe('StringIO'), { interval: 10 });
    const answers = await Promise.all([first, result(id, 'redirect 0.8')]);
    for (const answer of answers) expect(answer).toMatch(/^(?:captured for 0\.\d\n)*$/);
    const name = await result(id, 'who');
    expect(name).not.toBe('StringIO');
    await result(id, 'say visible again');
    await expectLogged(id, 'visible again');
  });

  it('prints again after detaching or closing its stream', async () => {
    const id = await add('streams');
    await result(id, 'detach');
    await expectLogged(id, 'after detaching');
    await result(id, 'say in the next call');
    await expectLogged(id, 'in the next call');
    await stage.manager.call(id, 'close');
    await result(id, 'say after closing');
    await expectLogged(id, 'after closing');
  });

  it('writes text in pieces, from threads and programs, and the last line that it could not finish', async () => {
    const id = await add('streams');
    expect(await result(id, 'pieces')).toBe(20);
    await result(id, 'thread');
    await result(id, 'program');
    await result(id, 'unfinished');
    expect((await stage.manager.call(id, 'unfinished crash')).status).toBe(502);
    await expectLogged(
      id,
      ...['größer – 你好', 'from a thread', 'from a program', 'and its stderr'],
      ...['step one is done, step two ... done too', 'step one is done, step two ... '],
    );
  });

  it('has the arguments, the user and the home of a script without options', async () => {
    const id = await add('script');
    // As processes, workers have users that only their number tells from others.
    const entry = inContainers ? true : (expect.any(Boolean) as boolean);
    expect(await result(id)).toEqual({ format: 'table', arguments: 1, user: true, home: true, entry });
  });

  it('starts as many threads as it needs, and the call after it is served', async () => {
    const id = await add('threads');
    expect(await result(id, 'pool 100')).toBe(300);
    expect(await result(id, 'sleep 100')).toBe(100);
    expect(await result(id, 'pool 4')).toBe(12);
  });

  it('may replace what it likes of the standard library', async () => {
    const id = await add('patching');
    expect(await result(id, 'once')).toEqual([5, true]);
    expect(await result(id, 'again')).toEqual([10, true]);
    await expectLogged(id, 'patched once', 'patched again');
  });

  it('returns what FastAPI would put into its answer, in the same form', async () => {
    const id = await add('results');
    expect(await result(id)).toEqual({
      moment: '2024-01-02T03:04:05+00:00',
      day: '2024-01-02',
      took: 1.5,
      whole: 10,
      id: '00000000-0000-0000-0000-000000000001',
      lines: [{ price: 1.1, colour: 'red' }],
      text: 'größer',
      set: [1],
      pair: [1, 2],
      numbers: [0, 1, 2],
      queue: [1],
      path: '/x',
      keys: { red: 1, '2024-01-02': 2, '3': null },
    });
  });

  // In containers there is no package but those of their image.
  if (inContainers) return;
  describe('with gevent', () => {
    let packages: string;
    // Where the workers' users may read it.
    beforeAll(async () => {
      packages = await mkdtemp(join(tmpdir(), 'handler-packages-'));
      await chmod(packages, 0o755);
      for (const name of ['gevent', 'greenlet', 'zope']) {
        await cp(join(PACKAGES, name), join(packages, name), { recursive: true });
      }
    });
    afterAll(() => rm(packages, { recursive: true, force: true }));

    it('runs cooperatively what waits', async () => {
      const id = await add('cooperative', {}, (code) => code.replace('PACKAGES', packages));
      for (let call = 0; call < 2; call += 1) expect(await result(id)).toEqual([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], true]);
    });
  });
});
