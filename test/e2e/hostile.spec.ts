import { expect, it, vi } from 'vitest';
import type { FunctionDto } from '../client/index.js';
import type { TestEngine } from '../support/engine.js';
import { describeOnEachLocalEngine } from '../support/engines.js';
import { HOSTILE } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const RECOVERY_MS = 250;
/** What breaks its interpreter may lose its own answer, too. */
const BROKEN_MS = 1_000;
/** For two of them in a row, whose time limit is many times as much; the kernel is slow at giving memory. */
const EARLY_MS = 6_000;
const TRIES = 3;
const GOOD = '{"result":"good"}';

/** As processes, workers have users of their own only where the manager is root. */
const isGuarded = ({ name }: TestEngine) => name !== 'process' || process.geteuid?.() === 0;

describeOnEachLocalEngine('a handler that turns on its worker', (engine) => {
  const stage = Stage.on(engine);
  let hostile: FunctionDto;
  const ask = async (payload: string, timeoutMs = 20_000) => {
    hostile ??= await stage.manager.add(HOSTILE, { timeoutMs });
    return stage.manager.call(hostile.id, payload);
  };

  /** The next good call is quick: the best of three, for the machine may be busy. */
  const recoversFrom = async (attack: () => Promise<unknown>, withinMs = RECOVERY_MS) => {
    const times: number[] = [];
    while (times.length < TRIES && !times.some((time) => time <= withinMs)) {
      await attack();
      const began = performance.now();
      expect((await ask('good')).text).toBe(GOOD);
      times.push(performance.now() - began);
    }
    expect(Math.min(...times)).toBeLessThanOrEqual(withinMs);
  };

  it.each([
    ...['time.monotonic', 'time.time', 'os._exit', 'os.read', 'os.getpid', 'os.environ', 'json.dumps', 'json.loads'],
    ...['sys.stdout', 'builtins.len', 'builtins.isinstance', 'builtins.type', 'builtins.BaseException'],
    ...['threading.Thread', 'threading.current_thread', 'asyncio.Event', 'signal.signal', 'gc.collect'],
  ])('has %s again in the next call after setting it to None', async (name) => {
    await recoversFrom(() => ask(`break ${name}`), BROKEN_MS);
  });

  it('can recurse again in the next call after forbidding it', async () => {
    await recoversFrom(() => ask('recursion'), BROKEN_MS);
  });

  it('answers the next calls after starting hundreds of threads that sleep', async () => {
    await recoversFrom(async () => {
      await ask('sleepers');
      const answers = await Promise.all(Array.from({ length: 4 }, () => ask('good')));
      expect(answers.map(({ text }) => text)).toEqual(Array(4).fill(GOOD));
    });
  });

  it('has a new process for the next call after closing every descriptor of the old one', async () => {
    await recoversFrom(async () => expect((await ask('close')).status).toBe(502));
  });

  const BOMBS = ['fork', 'fork-later 0.3', 'fork-memory', 'threads'];
  it.each(BOMBS)('is ended early when it makes processes or threads without end (%s)', async (bomb) => {
    await ask('good');
    const times: number[] = [];
    const twice = async () => {
      const began = performance.now();
      // The second one comes while the first one's processes are still dying.
      for (let count = 0; count < 2; count += 1) expect((await ask(bomb)).status).toBe(502);
      times.push(performance.now() - began);
    };
    await recoversFrom(twice);
    while (times.length < TRIES && !times.some((time) => time < EARLY_MS)) await twice();
    expect(Math.min(...times)).toBeLessThan(EARLY_MS);
  });

  it('is told that its file makes processes without end', async () => {
    const file = 'import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n';
    const answer = await stage.manager.send('/functions', { method: 'POST', ...upload(file) });
    expect(expectProblem(answer, 422, 'handler_not_loadable').detail).toContain('too many processes');
  });

  it.runIf(isGuarded(engine))('does not end its supervisor', async () => {
    await recoversFrom(() => ask('kill-parent'));
    const seen = (await stage.manager.send(`/functions/${hostile.id}`)).json();
    expect(seen).toMatchObject({ status: 'running', ready_replicas: 1, last_error: null });
  });

  it('runs at once when forty callers before it have left theirs asleep', async () => {
    await ask('good');
    await recoversFrom(async () => {
      const leaving = new AbortController();
      const abandoned = Array.from({ length: 40 }, () =>
        stage.manager.call(hostile.id, 'sleep 18', { signal: leaving.signal }).catch((error: Error) => error.name),
      );
      await vi.waitFor(async () => {
        const metrics = await stage.manager.send('/metrics');
        expect(metrics.text).toMatch(/faas_calls_in_flight\{[^}]*\} 32\n/);
      });
      leaving.abort();
      expect(new Set(await Promise.all(abandoned))).toEqual(new Set(['AbortError']));
    });
  });
});
