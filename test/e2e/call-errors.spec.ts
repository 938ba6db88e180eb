import { expect, it, vi } from 'vitest';
import { docker } from '../docker/support/docker-tests.js';
import { executeFunction, type FunctionDto } from '../client/index.js';
import { describeOnContainers, describeOnDocker, describeOnEachEngine } from '../support/engines.js';
import { OBEDIENT, POISONABLE, SLEEPY } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';

describeOnEachEngine('a call that fails', (engine) => {
  const stage = Stage.on(engine);
  let obedient: FunctionDto;
  const ask = async (payload: string) => {
    obedient ??= await stage.manager.add(OBEDIENT);
    return stage.manager.call(obedient.id, payload);
  };

  it('answers 500 with the Python type, message and traceback when the handler raises', async () => {
    const problem = expectProblem(await ask('raise no name given'), 500, 'handler_error');
    expect(problem).toMatchObject({
      detail: 'ValueError: no name given',
      python_type: 'ValueError',
      python_message: 'no name given',
    });
    expect(problem.traceback).toMatch(/^Traceback .*\n {2}File ".*handler\.py", line 6, in handle\n/);
    expect(problem.traceback).not.toContain('faas_worker');
    const typed = await executeFunction({
      client: stage.manager.client,
      path: { id: obedient.id },
      body: { payload: 'raise again' },
    });
    expect(typed.error).toMatchObject({ code: 'handler_error', detail: 'ValueError: again' });
  });

  it.each([
    ['float("nan")', '', 'float'],
    ['{"rows": [{}, {"bad": float("inf")}]}', 'rows[1].bad', 'float'],
    ['[object()]', '[0]', 'object'],
    ['{"a": {(1, 2): 3}}', 'a[(1, 2)]', 'tuple'],
    ['(x := [], x.append(x))[0]', '[0]', 'list'],
  ])('answers 500 when the result is no JSON, and says where: %s', async (expression, path, type) => {
    const problem = expectProblem(await ask(`return ${expression}`), 500, 'handler_result_invalid');
    expect(problem).toMatchObject({ path, python_type: type });
    expect(problem.detail).toMatch(/^The handler's return value is not JSON: /);
  });

  it('answers 502 when the handler ends its worker, and the next call runs', async () => {
    const problem = expectProblem(await ask('exit 7'), 502, 'worker_crashed');
    expect(problem).toMatchObject({ reason: 'exit', detail: expect.stringContaining('7') as string });
    expect((await ask('again')).text).toBe('{"result":"again"}');
  });

  it('answers 504 when the handler runs past the time limit of the upload, blocked or asleep', async () => {
    const { add, call } = bound(stage);
    const blocked = await add(OBEDIENT, { timeoutMs: 300 });
    expect(blocked.timeout_ms).toBe(300);
    const asleep = await add(SLEEPY, { timeoutMs: 300 });
    for (const { id } of [blocked, asleep]) {
      const began = performance.now();
      const problem = expectProblem(await call(id, 'sleep 60'), 504, 'handler_timeout');
      expect(problem).toMatchObject({ timeout_ms: 300, detail: expect.stringContaining('300 ms') as string });
      expect(performance.now() - began).toBeLessThan(15_000);
    }
    await vi.waitFor(async () => expect((await call(blocked.id, 'fine')).text).toBe('{"result":"fine"}'));
    await stage.manager.remove(blocked.id);
    await stage.manager.remove(asleep.id);
  });

  it('answers 404 for a function that never was', async () => {
    expectProblem(await stage.manager.call('aaaaaaaaaaaaaaaa'), 404, 'function_not_found');
  });

  it('answers 429 when all slots are taken and the queue is full', async () => {
    const narrow = await stage.start({ WORKER_CONCURRENCY: '1', QUEUE_PER_FUNCTION: '1' });
    const { id } = await narrow.add(SLEEPY);
    const answers = await Promise.all(Array.from({ length: 4 }, () => narrow.call(id, 'sleep 0.4')));
    const refused = answers.filter(({ status }) => status !== 200);
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(2);
    for (const answer of refused) expectProblem(answer, 429, 'function_overloaded');
    expect((await narrow.call(id, 'sleep 0')).status).toBe(200);
    await narrow.remove(id);
  });

  it('cancels the handler when its caller disconnects', async () => {
    const narrow = await stage.start({ WORKER_CONCURRENCY: '1', QUEUE_PER_FUNCTION: '0' });
    const { id } = await narrow.add(SLEEPY);
    const leaving = new AbortController();
    const abandoned = narrow.call(id, 'sleep 25', { signal: leaving.signal }).catch((error: Error) => error.name);
    await vi.waitFor(async () => expect((await narrow.call(id, 'sleep 0')).status).toBe(429));
    leaving.abort();
    expect(await abandoned).toBe('AbortError');
    // The worker itself runs one call at a time: an answer means that the handler has been ended there too.
    await vi.waitFor(async () => expect((await narrow.call(id, 'sleep 0')).status).toBe(200));
    await narrow.remove(id);
  });

  it('answers 409 while the function is being removed, and lets the call in flight finish', async () => {
    const { manager } = stage;
    const { id } = await manager.add(SLEEPY);
    await manager.call(id, 'sleep 0');
    const inFlight = manager.call(id, 'sleep 1.5');
    // The worker takes calls in turn, so by now it has that one.
    await manager.call(id, 'sleep 0');
    const removal = manager.remove(id);
    await vi.waitFor(async () => {
      const problem = expectProblem(await manager.call(id, 'sleep 0'), 409, 'function_not_runnable');
      expect(problem).toMatchObject({
        function_status: 'deleting',
        detail: expect.stringContaining('removed') as string,
      });
    });
    expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({ status: 'deleting', ready_replicas: 0 });
    expect((await inFlight).text).toBe('{"result":"slept"}');
    expect((await removal).status).toBe(204);
  });

  it('is followed by answers of another worker where its own can no longer load the file', async () => {
    const { manager } = stage;
    const { id } = await manager.add(POISONABLE);
    expectProblem(await manager.call(id, 'poison'), 502, 'worker_crashed');
    await vi.waitFor(async () => expect((await manager.call(id, 'on')).text).toBe('{"result":"on"}'), 50_000);
    expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({
      status: 'running',
      last_error: { code: 'handler_not_loadable', message: expect.stringContaining('poisoned') as string },
    });
    expect((await manager.remove(id)).status).toBe(204);
  }, 60_000);
});

describeOnContainers('a container that runs out of memory', (engine) => {
  const stage = Stage.on(engine, { WORKER_MEMORY_MIB: '96' });

  it('costs that call a 502 that says so, and the function goes on', async () => {
    const { add, call } = bound(stage);
    const { id } = await add(OBEDIENT);
    const problem = expectProblem(await call(id, 'allocate 300'), 502, 'worker_crashed');
    expect(problem).toMatchObject({ reason: 'out_of_memory', detail: expect.stringMatching(/memory/) as string });
    expect((await call(id, 'fine')).text).toBe('{"result":"fine"}');
    expect((await call(id, 'allocate 10')).text).toBe(`{"result":${10 * 1024 * 1024}}`);
  });
});

describeOnDocker('a container whose network is taken down before it ends', (engine) => {
  const stage = Stage.on(engine);

  it('costs its calls a 502 once the engine tells of the end, though no connection was closed', async () => {
    const { add, call } = bound(stage);
    const { id, container_id: container } = await add(SLEEPY);
    const inFlight = call(id, 'sleep 25');
    // The worker takes calls in turn, so by now it has that one.
    await call(id, 'sleep 0');
    const began = performance.now();
    await docker.getNetwork(stage.room.env['DOCKER_NETWORK']!).disconnect({ Container: container, Force: true });
    await docker.getContainer(container).kill();
    expectProblem(await inFlight, 502, 'worker_crashed');
    expect(performance.now() - began).toBeLessThan(15_000);
    await vi.waitFor(async () => expect((await call(id, 'sleep 0')).text).toBe('{"result":"slept"}'), {
      timeout: 15_000,
    });
    await stage.manager.remove(id);
  });
});

function bound({ manager }: Stage): Pick<Stage['manager'], 'add' | 'call'> {
  return { add: manager.add.bind(manager), call: manager.call.bind(manager) };
}
