import { describe, expect, it } from 'vitest';
import type { FunctionDetailDto, FunctionDto } from '../client/index.js';
import { ON_CLUSTER } from '../support/engine.js';
import { describeOnAnyEngine, describeOnContainers, describeOnEachEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { field, file, form } from '../support/uploads.js';

/** Answers the variables that it is asked for, as they were while the file was loaded. */
const VARIABLES = `import json, os
SEEN = dict(os.environ)
def handle(payload):
    return {name: SEEN.get(name) for name in json.loads(payload)}
`;
const MEMORY_LIMIT = `import pathlib
def handle(payload):
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if pathlib.Path(path).exists():
            return int(pathlib.Path(path).read_text()) // 2**20
`;

async function upload(manager: TestManager, members: object) {
  const body = JSON.stringify({ function_name: 'handle', code: ECHO, ...members });
  return manager.send('/functions', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
}

async function added(manager: TestManager, members: object): Promise<FunctionDto> {
  const answer = await upload(manager, members);
  expect(answer.status, answer.text).toBe(201);
  return answer.json() as FunctionDto;
}

describeOnEachEngine('the variables of a function', (engine) => {
  const stage = Stage.on(engine, { WARM_POOL_SIZE: '0' });
  const env = { GREETING: 'Héllo "$(HOME)" $$ $HOME\n😀', TZ: 'Asia/Kathmandu', EMPTY: '', FAAS_EVENT_LOOP: 'asyncio' };
  const names = JSON.stringify([...Object.keys(env), 'FAAS_CONCURRENCY']);

  it('are in its environment before its file is loaded, and no other function’s', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id, ...shown } = await added(manager, { code: VARIABLES, env, concurrency: 3 });
    expect(shown.env).toEqual(env);
    expect(((await manager.send(`/functions/${id}`)).json() as FunctionDetailDto).env).toEqual(env);
    expect((await manager.call(id, names)).json()).toEqual({ result: { ...env, FAAS_CONCURRENCY: '3' } });
    const other = await manager.add(VARIABLES);
    expect((await manager.call(other.id, '["GREETING", "EMPTY"]')).json()).toEqual({
      result: { GREETING: null, EMPTY: null },
    });
    for (const one of [id, other.id]) await manager.remove(one);
  });

  it('are there too in a worker that waited for its function', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const warm = await stage.start({ WARM_POOL_SIZE: '1' });
    await expect
      .poll(async () => (await warm.send('/metrics')).text, { timeout: 60_000, interval: 100 })
      .toMatch(/^faas_pool_ready 1$/m);
    const { id } = await added(warm, { code: VARIABLES, env });
    expect((await manager.call(id, names)).json()).toEqual({ result: { ...env, FAAS_CONCURRENCY: '32' } });
    await manager.remove(id);
    await warm.stop();
  });

  it('ride along in a form', async () => {
    const { manager } = stage;
    const parts = form(file(VARIABLES), field('function_name', 'handle'), field('env', '{"A": "1"}'));
    const answer = await manager.send('/functions', { method: 'POST', ...parts });
    const { id } = answer.json() as FunctionDto;
    expect((await manager.call(id, '["A"]')).json()).toEqual({ result: { A: '1' } });
    await manager.remove(id);
  });
});

describeOnContainers('the memory of a function', (engine) => {
  const stage = Stage.on(engine);

  it.each(['0', '1'])('is what its upload says, with a pool of %s', async (size) => {
    const one = await stage.start({ WARM_POOL_SIZE: size, WORKER_MEMORY_MIB: '200' });
    const said = await added(one, { code: MEMORY_LIMIT, memory_mib: 300, cpu_millis: 250 });
    expect(said).toMatchObject({ memory_mib: 300, cpu_millis: 250 });
    expect((await one.call(said.id)).json()).toEqual({ result: 300 });
    const unsaid = await added(one, { code: MEMORY_LIMIT });
    expect(unsaid).toMatchObject({ memory_mib: 200, cpu_millis: 1_000 });
    expect((await one.call(unsaid.id)).json()).toEqual({ result: 200 });
    // Other defaults reach only what was not said.
    const other = await stage.start({ WARM_POOL_SIZE: size, WORKER_MEMORY_MIB: '240' });
    const memory = async (id: string) => ((await other.call(id)).json() as { result: number }).result;
    await expect.poll(() => memory(unsaid.id), { timeout: 30_000, interval: 200 }).toBe(240);
    expect(await memory(said.id)).toBe(300);
    for (const { id } of [said, unsaid]) await other.remove(id);
    for (const manager of [one, other]) await manager.stop();
  });
});

describeOnAnyEngine('settings of an upload', (engine) => {
  const stage = Stage.on(engine, { MAX_MEMORY_MIB: '1024', MAX_CPU_MILLIS: '2000', REPLICAS_MEMORY_MIB: '4096' });

  describe('are refused with the field, the bound and who sets it', () => {
    it.each([
      ['memory_mib', 1_025, 'at most 1024: this installation allows no more (MAX_MEMORY_MIB)'],
      ['memory_mib', 31, 'at least 32'],
      ['memory_mib', '512', 'a whole number'],
      ['cpu_millis', 2_001, 'at most 2000: this installation allows no more (MAX_CPU_MILLIS)'],
      ['cpu_millis', 9, 'at least 10'],
      ['env', { PATH: '/tmp' }, 'reserved'],
      ['env', 'A=1', 'a JSON object'],
      ['env', { A: 'x'.repeat(40_000) }, 'may have 32768'],
    ])('%s: %j', async (setting, value, told) => {
      const problem = expectProblem(await upload(stage.manager, { [setting]: value }), 400, 'invalid_upload');
      expect(problem.field).toBe(setting);
      expect(problem.detail).toContain(told);
    });

    // The bound is one machine's memory.
    it.skipIf(ON_CLUSTER)('min_replicas, by the memory that each will have', async () => {
      const problem = expectProblem(
        await upload(stage.manager, { memory_mib: 1_024, min_replicas: 5 }),
        400,
        'invalid_upload',
      );
      expect(problem).toMatchObject({ field: 'min_replicas' });
      expect(problem.detail).toContain('at most 4: each may take 1024 MiB');
    });

    it('an env of a megabyte', async () => {
      const large = JSON.stringify({ A: 'x'.repeat(1024 * 1024) });
      const sent = form(file(ECHO), field('function_name', 'handle'), field('env', large));
      const answer = await stage.manager.send('/functions', { method: 'POST', ...sent });
      expect(expectProblem(answer, 400, 'invalid_upload').field).toBe('env');
    });
  });
});
