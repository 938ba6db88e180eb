import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, it, vi } from 'vitest';
import type { RunResult } from '../client/index.js';
import { describeOnAnyEngine, describeOnDocker, describeOnEachEngine } from '../support/engines.js';
import { type Answer, expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { newKey, putSecret } from '../support/secrets.js';
import { Stage } from '../support/stage.js';
import { field, file, form } from '../support/uploads.js';

function run(manager: TestManager, body: object): Promise<Answer> {
  const headers = { 'Content-Type': 'application/json' };
  return manager.send('/runs', {
    method: 'POST',
    headers,
    body: JSON.stringify({ function_name: 'handle', ...body }),
  });
}

const resultOf = (answer: Answer): RunResult => {
  expect(answer.status, answer.text).toBe(200);
  return answer.json() as RunResult;
};

describeOnEachEngine('a run', (engine) => {
  const stage = Stage.on(engine);

  it('answers with the result and what was printed, and leaves nothing', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const code = [
      'import sys',
      'print("loading")',
      'def handle(payload):',
      '    print("one")',
      '    print("two", file=sys.stderr)',
      '    print("three", end="")',
      '    return {"got": payload}',
    ].join('\n');
    const { result, logs, duration_ms: took } = resultOf(await run(manager, { code, payload: 'Ada' }));
    expect(result).toEqual({ got: 'Ada' });
    expect(took).toBeGreaterThan(0);
    expect(logs.map(({ line }) => line).toSorted()).toEqual(['loading', 'one', 'three', 'two']);
    expect((await manager.send('/functions')).json()).toEqual([]);
    await vi.waitFor(async () => expect(await stage.room.workers()).toEqual([]), { timeout: 60_000 });
  });

  it('that fails says why, and what was printed until then', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const raising = 'def handle(payload):\n    print("before")\n    raise ValueError(payload)\n';
    const problem = expectProblem(await run(manager, { code: raising, payload: 'oh' }), 500, 'handler_error');
    expect(problem).toMatchObject({ python_type: 'ValueError', python_message: 'oh', logs: ['before'] });
    const slow = 'import time\ndef handle(payload):\n    print("begun", flush=True)\n    time.sleep(60)\n';
    expect(expectProblem(await run(manager, { code: slow, timeout_ms: 500 }), 504, 'handler_timeout')).toMatchObject({
      logs: ['begun'],
    });
    const leaving =
      'import os\nprint("loaded")\ndef handle(payload):\n    print("called", flush=True)\n    os._exit(3)\n';
    expect(expectProblem(await run(manager, { code: leaving }), 502, 'worker_crashed')).toMatchObject({
      reason: 'exit',
      logs: ['loaded', 'called'],
    });
    expectProblem(await run(manager, { code: 'import nowhere_to_be_found' }), 422, 'handler_not_loadable');
    const kept = async () => (await manager.send('/runs?limit=1')).json();
    const error = { code: 'handler_not_loadable' };
    await vi.waitFor(async () => expect(await kept()).toMatchObject([{ status: 'failed', error }]), {
      timeout: 15_000,
    });
    expect((await manager.send('/functions')).json()).toEqual([]);
    await vi.waitFor(async () => expect(await stage.room.workers()).toEqual([]), { timeout: 60_000 });
  });
});

describeOnAnyEngine('runs with large results', (engine) => {
  const stage = Stage.on(engine, { MAX_HELD_BYTES: '80000000' });

  it('are answered whole, however slowly that is read', { timeout: 120_000 }, async () => {
    const bytes = 15_000_000;
    const code = `def handle(payload):\n    return "x" * ${bytes}\n`;
    const body = JSON.stringify({ function_name: 'handle', code });
    const headers = { 'Content-Type': 'application/json' };
    // As over a line of 5 MB/s.
    const read = async () => {
      const sent = request(`${stage.manager.url}/runs`, { method: 'POST', headers }).end(body);
      const [answer] = (await once(sent, 'response')) as [IncomingMessage];
      let got = 0;
      for await (const piece of answer) {
        got += (piece as Buffer).length;
        await delay((piece as Buffer).length / 5_000);
      }
      return { status: answer.statusCode, got, wanted: Number(answer.headers['content-length']) };
    };
    for (const { status, got, wanted } of await Promise.all([read(), read()])) {
      expect([status, got]).toEqual([200, wanted]);
      expect(got).toBeGreaterThan(bytes);
    }
  });
});

describeOnAnyEngine('runs', (engine) => {
  const stage = Stage.on(engine, { SECRETS_KEYS: newKey('one'), WARM_POOL_SIZE: '2' });

  it('see nothing of each other', async () => {
    const code = [
      'import builtins, os, pathlib',
      'mark = pathlib.Path(os.environ["HOME"]) / "mark"',
      'def handle(payload):',
      '    seen = [hasattr(builtins, "mark"), mark.exists(), os.environ.get("MARK")]',
      '    builtins.mark = 1; mark.write_text("x"); os.environ["MARK"] = "1"',
      '    return seen',
    ].join('\n');
    const { manager } = stage;
    for (let round = 0; round < 6; round += 1) {
      expect(resultOf(await run(manager, { code })).result).toEqual([false, false, null]);
    }
  });

  it('take settings, variables and secrets as functions do, and forms', async () => {
    const { manager } = stage;
    expect((await putSecret(manager, 'token', 'hush hush')).status).toBeLessThan(300);
    const code =
      'import os\ndef handle(p):\n    print(os.environ["T"])\n    return [os.environ["A"], len(os.environ["T"])]\n';
    const given = resultOf(await run(manager, { code, env: { A: 'a' }, secrets: { T: 'token' }, memory_mib: 256 }));
    expect(given.result).toEqual(['a', 9]);
    expect(JSON.stringify(given.logs)).not.toContain('hush');
    const parts = form(
      file('def other(p):\n    return p * 2\n'),
      field('function_name', 'other'),
      field('payload', 'ab'),
    );
    const sent = await manager.send('/runs', { method: 'POST', ...parts });
    expect(resultOf(sent).result).toBe('abab');
    expect((await manager.send('/secrets/token', { method: 'DELETE' })).status).toBe(204);
  });

  it.each([
    [{ code: '' }, 'code'],
    [{ code: 'x', payload: 1 }, 'payload'],
    [{ code: 'x', name: 'orders' }, 'name'],
    [{ code: 'x', concurrency: 2 }, 'concurrency'],
    [{ code: 'x', timeout_ms: 0 }, 'timeout_ms'],
    [{ code: 'x', function_name: 'not a name' }, 'function_name'],
  ])('are refused with the member at fault: %j', async (body, member) => {
    expect(expectProblem(await run(stage.manager, body), 400, 'invalid_upload')).toMatchObject({ field: member });
  });

  it('end with whoever asked for them', async () => {
    const { manager } = stage;
    const leaving = new AbortController();
    const code = 'import time\ndef handle(p):\n    time.sleep(60)\n';
    const body = JSON.stringify({ function_name: 'handle', code });
    const asked = fetch(`${manager.url}/runs`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body,
      signal: leaving.signal,
    }).catch(() => undefined);
    const isRunning = async () => /^faas_calls_in_flight\{.* [1-9]/m.test((await manager.send('/metrics')).text);
    await vi.waitFor(async () => expect(await isRunning()).toBe(true), { timeout: 30_000 });
    leaving.abort();
    await asked;
    await vi.waitFor(async () => expect(await isRunning()).toBe(false), { timeout: 30_000 });
  });
});

describeOnDocker('a run whose process is killed at once', (engine) => {
  const stage = Stage.on(engine, { WARM_POOL_SIZE: '2' });

  // The less memory, the sooner it is full: before the worker has done with taking its function.
  it('says whether that was for want of memory', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const greedy = 'def handle(p):\n    kept = []\n    while True:\n        kept.append(bytearray(1_000_000))\n';
    const suicidal = 'import os\ndef handle(p):\n    os.kill(os.getpid(), 9)\n';
    for (let round = 0; round < 5; round += 1) {
      for (const [code, reason] of [
        [greedy, 'out_of_memory'],
        [suicidal, 'signal'],
      ]) {
        const problem = expectProblem(await run(manager, { code, memory_mib: 40 }), 502, 'worker_crashed');
        expect(problem).toMatchObject({ reason });
      }
    }
  });
});

describeOnAnyEngine('a run whose worker is killed', (engine) => {
  const stage = Stage.on(engine);
  const marks = mkdtempSync(join(tmpdir(), 'faas-runs-'));
  chmodSync(marks, 0o777);
  afterAll(() => rmSync(marks, { recursive: true }));

  it.runIf(engine.name === 'process')('keeps what it has printed, and is not begun again', async () => {
    const code = [
      'import os, tempfile, time',
      `mark = tempfile.mkdtemp(dir="${marks}")`,
      'print("loaded")',
      'def handle(payload):',
      '    print("called", flush=True)',
      '    os.rename(mark, f"{mark}-{os.getppid()}")',
      '    time.sleep(60)',
    ].join('\n');
    const asked = run(stage.manager, { code });
    const worker = await vi.waitFor(() => {
      const [pid] = readdirSync(marks).flatMap((name) => /-(\d+)$/.exec(name)?.[1] ?? []);
      expect(pid).toBeDefined();
      return Number(pid);
    }, 30_000);
    process.kill(worker, 'SIGKILL');
    const problem = expectProblem(await asked, 502, 'worker_crashed');
    expect(problem).toMatchObject({ logs: ['loaded', 'called'] });
    await vi.waitFor(async () => expect(await stage.room.workers()).toEqual([]), { timeout: 60_000 });
    expect(readdirSync(marks)).toHaveLength(1);
  });
});

describeOnAnyEngine('a run that has yet to start', (engine) => {
  const stage = Stage.on(engine, { READY_TIMEOUT_MS: '600000' });

  it('ends with whoever asked for it, too', async () => {
    const { manager } = stage;
    const leaving = new AbortController();
    const asked = fetch(`${manager.url}/runs`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ function_name: 'handle', code: 'import time\ntime.sleep(500)\n' }),
      signal: leaving.signal,
    }).catch(() => undefined);
    const worker = await vi.waitFor(
      async () => {
        const [name] = await stage.room.workers();
        expect(name).toBeDefined();
        return name;
      },
      { timeout: 60_000 },
    );
    // Nobody else can call it.
    const id = /[a-z2-7]{16}/.exec(worker ?? '')?.[0];
    expect(id).toBeDefined();
    for (const path of ['execute', 'invocations']) {
      const call = { method: 'POST', body: '{"payload": ""}' };
      expectProblem(await manager.send(`/functions/${id}/${path}`, call), 404, 'function_not_found');
    }
    leaving.abort();
    await asked;
    await vi.waitFor(async () => expect(await stage.room.workers()).toEqual([]), { timeout: 60_000 });
  });
});
