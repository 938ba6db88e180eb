import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dockerStage, endStage, python } from './support/docker-stage.js';
import { PLAIN_IMAGE, testConfig, whyNoDocker } from './support/docker-tests.js';

const reason = await whyNoDocker(PLAIN_IMAGE);

describe.skipIf(reason !== undefined)('an image that offers the fixed contract only', { timeout: 60_000 }, () => {
  let stage: Stage;
  beforeEach(() => {
    stage = dockerStage(testConfig({ image: PLAIN_IMAGE }));
  });
  afterEach(() => endStage(stage));

  it('runs unchanged', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(python('async def greet(payload: str):\n    return {"hi": payload}\n', 'greet'));
    const seen = await stage.settleReady(manager, workload);
    expect(await stage.call(seen.endpoints[0], 'you')).toEqual({ status: 200, body: { result: { hi: 'you' } } });
    await stage.remove(manager, workload.functionId, 5_000);
    expect(await stage.list(manager)).toEqual([]);
  });

  it('tells from the log why a handler can’t be loaded, for good', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(python('import json\n\nimport nowhere_to_be_found\n'));
    const seen = await stage.settle(manager, workload, (now) => now.reason?.terminal === true);
    expect(seen.reason).toMatchObject({ code: 'handler_not_loadable', line: 3 });
    expect(seen.reason?.detail).toContain('nowhere_to_be_found');
    expect((await stage.ensure(manager, workload)).reason).toEqual(seen.reason);
  });

  it('takes an end after it was ready for a crash, whatever its log says', async () => {
    const manager = await stage.manager();
    const source = `import os
import traceback


def handle(payload: str):
    try:
        raise ValueError("a traceback in the log")
    except ValueError:
        traceback.print_exc()
    os._exit(3)
`;
    const workload = stage.workload(python(source));
    const before = await stage.settleReady(manager, workload);
    await expect(stage.call(before.endpoints[0], 'x')).rejects.toThrow();
    const seen = await stage.settle(manager, workload, (now) => now.reason?.code === 'worker_crashed');
    expect(seen.reason).toMatchObject({ message: 'The worker exited with code 3.', terminal: false });
    expect(seen.reason?.detail).toContain('a traceback in the log');
    expect((await stage.settleReady(manager, workload)).primary).not.toBe(before.primary);
  });

  it('tells an end for lack of memory apart', async () => {
    const manager = await stage.manager();
    const source = 'def handle(payload: str):\n    return len([bytearray(b"x" * (1 << 20)) for _ in range(4096)])\n';
    const limits = { ...stage.workload(python(source)).limits, memoryMiB: 64 };
    const workload = stage.workload(python(source), { limits });
    const before = await stage.settleReady(manager, workload);
    await expect(stage.call(before.endpoints[0], 'x')).rejects.toThrow();
    const seen = await stage.settle(
      manager,
      workload,
      (now) => now.reason !== undefined && now.reason.code !== 'starting',
    );
    expect(seen.reason).toMatchObject({ code: 'out_of_memory', terminal: false });
    await stage.settleReady(manager, workload);
  });
});
