import { expect, it } from 'vitest';
import { addFunction } from '../client/index.js';
import { describeOnEachLocalEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const UNLOADABLE = [
  {
    what: 'does not compile',
    code: 'import os\n\ndef handle(payload):\n    return (payload\n',
    detail: /SyntaxError: .*never closed/,
    line: 4,
    traceback: /return \(payload/,
  },
  {
    what: 'raises on import',
    code: 'import os\nos.environ["NO_SUCH_THING"]\n' + ECHO,
    detail: /KeyError: .*NO_SUCH_THING/,
    line: 2,
    traceback: /File ".*handler\.py", line 2, in <module>/,
  },
  {
    what: 'imports a package that is not there',
    code: 'import no_such_package\n' + ECHO,
    detail: /ModuleNotFoundError: No module named 'no_such_package'\. .*WORKER_IMAGE/,
    members: { python_message: "No module named 'no_such_package'" },
    line: 1,
    traceback: /line 1, in <module>/,
  },
  {
    what: 'has no such callable',
    code: 'import json\n\ndef handler(payload):\n    return 1\n',
    detail: /AttributeError: .*'handle'\. Did you mean 'handler'\?/,
    members: { python_type: 'AttributeError', available: ['handler'], stderr: '' },
  },
  {
    what: 'reads options that it was not given',
    code: 'import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument("--year", required=True)\nparser.parse_args()\n',
    detail: /SystemExit: 2\. .*__main__/,
    line: 4,
    members: {
      python_type: 'SystemExit',
      python_message: '2',
      stderr: expect.stringMatching(/^usage: .*\n.*arguments are required: --year$/s) as string,
    },
  },
  {
    what: 'names no encoding',
    code: '#!/bin/python\n# coding: nonsense\n',
    detail: /unknown encoding: nonsense/,
    line: 2,
  },
  {
    what: 'is not in the encoding that it names',
    code: Buffer.from('# coding: cp1252\n\nWORD = "\u0081"\n', 'latin1'),
    detail: /SyntaxError: .*0x81/,
    line: 3,
  },
  {
    what: 'is too much for the compiler',
    code: `WORD = ${'-'.repeat(1_000_000)}1\n`,
    detail: /(?:Memory|Recursion)Error.* nested too deeply or too long/,
  },
  { what: 'has something else of that name', code: 'handle = 3\n', detail: /handle is not callable: it is a int/ },
  { what: 'takes no argument', code: 'def handle():\n    return 1\n', detail: /one positional argument/ },
  { what: 'takes three arguments', code: 'def handle(a, b, c):\n    return 1\n', detail: /one positional argument/ },
  { what: 'ends its process on import', code: 'import os\nos._exit(9)\n' + ECHO, detail: /9/ },
  {
    what: 'raises with what no database keeps',
    code: "raise ValueError('half \\ud800 and nul \\0')\n" + ECHO,
    detail: /ValueError: half .* and nul /,
    line: 1,
  },
  { what: 'leaves on import', code: 'import sys\nsys.exit(0)\n' + ECHO, detail: /SystemExit/, line: 2 },
] as const;

describeOnEachLocalEngine('an upload that fails', (engine) => {
  const stage = Stage.on(engine);

  async function expectNothingLeft(manager: TestManager): Promise<void> {
    expect((await manager.send('/functions')).text).toBe('[]');
    expect(await stage.room.workers()).toEqual([]);
  }

  it.each(UNLOADABLE)('answers 422 with the Python error when the file $what', async (unloadable) => {
    const answer = await stage.manager.send('/functions', { method: 'POST', ...upload(unloadable.code) });
    const problem = expectProblem(answer, 422, 'handler_not_loadable');
    expect(problem.detail).toMatch(unloadable.detail);
    expect(problem.detail).not.toContain('faas_worker');
    if ('line' in unloadable) expect(problem.line).toBe(unloadable.line);
    if ('members' in unloadable) expect(problem).toMatchObject(unloadable.members);
    if ('traceback' in unloadable) expect(problem.traceback).toMatch(unloadable.traceback);
    await expectNothingLeft(stage.manager);
  });

  it('tells the client the same in the types of the document', async () => {
    const { client } = stage.manager;
    const body = { code: 'def handle(:\n', function_name: 'handle' };
    const { error, response } = await addFunction({ client, body });
    expect(response?.status).toBe(422);
    expect(error).toMatchObject({ code: 'handler_not_loadable', line: 1 });
  });

  it('answers 503 when the handler is not ready in time', async () => {
    const hasty = await stage.start({ READY_TIMEOUT_MS: '1500' });
    const code = 'import time\ntime.sleep(120)\n' + ECHO;
    const began = performance.now();
    const answer = await hasty.send('/functions', { method: 'POST', ...upload(code) });
    const problem = expectProblem(answer, 503, 'function_not_ready');
    expect(problem.detail).toMatch(/did not become ready: not within 1500 ms/);
    // Long before the file would be loaded, whatever removing its worker takes here.
    expect(performance.now() - began).toBeLessThan(60_000);
    await expectNothingLeft(hasty);
  });

  it('is over for its function when the uploader disconnects, or leaves it whole', async () => {
    const leaving = new AbortController();
    const sent = stage.manager.send('/functions', { method: 'POST', ...upload(ECHO), signal: leaving.signal });
    setImmediate(() => leaving.abort());
    await expect(sent).rejects.toThrow(/abort/);
    const functions = (await stage.manager.send('/functions')).json() as { id: string }[];
    for (const { id } of functions) expect((await stage.manager.remove(id)).status).toBe(204);
    await expectNothingLeft(stage.manager);
  });
});
