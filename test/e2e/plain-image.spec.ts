import { expect, it, vi } from 'vitest';
import { describeOnPlainImage } from '../support/engines.js';
import { ASYNC_ECHO, OBEDIENT, SLEEPY } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

await describeOnPlainImage('an image that offers the bare contract', (engine) => {
  const stage = Stage.on(engine);

  it('runs functions, coroutines too, and tells when one raises', async () => {
    const { manager } = stage;
    const obedient = await manager.add(OBEDIENT);
    expect((await manager.call(obedient.id, 'return [1.0, "é"]')).json()).toEqual({ result: [1, 'é'] });
    const problem = expectProblem(await manager.call(obedient.id, 'raise no name given'), 500, 'handler_error');
    expect(problem).toMatchObject({ detail: expect.stringContaining('no name given') as string, traceback: null });
    const coroutine = await manager.add(ASYNC_ECHO);
    expect((await manager.call(coroutine.id, 'x')).json()).toEqual({ result: { echo: 'x' } });
    expect((await manager.remove(obedient.id)).status).toBe(204);
    expect((await manager.remove(coroutine.id)).status).toBe(204);
  });

  it('is never called over HTTP', async () => {
    const { manager } = stage;
    const { id } = await manager.add(OBEDIENT);
    const body = '{"payload": "return 1"}';
    for (const sent of [{}, { method: 'POST', body }, { method: 'PUT', body: 'x' }]) {
      expectProblem(await manager.send(`/f/${id}`, sent), 501, 'http_unsupported');
    }
    expectProblem(await manager.send(`/f/${id}/health`), 501, 'http_unsupported');
    await manager.remove(id);
  });

  it('is bound by the time limit all the same', async () => {
    const { id } = await stage.manager.add(SLEEPY, { timeoutMs: 400 });
    expectProblem(await stage.manager.call(id, 'sleep 30'), 504, 'handler_timeout');
    expect((await stage.manager.call(id, 'sleep 0')).status).toBe(200);
    await stage.manager.remove(id);
  });

  it('is started again after it ended in the middle of a call', async () => {
    const { manager } = stage;
    const { id, container_id } = await manager.add(OBEDIENT);
    const problem = expectProblem(await manager.call(id, 'exit 7'), 502, 'worker_crashed');
    // The engine may show the container as running for a moment after its end: then the reason isn't known in time.
    expect(problem['reason']).toMatch(/^(exit|unknown)$/);
    await vi.waitFor(async () => expect((await manager.call(id, 'hello')).text).toBe('{"result": "hello"}'), {
      timeout: 30_000,
    });
    await vi.waitFor(async () => {
      const detail = (await manager.send(`/functions/${id}`)).json() as { container_id: string };
      expect(detail).toMatchObject({ status: 'running', last_error: { code: 'worker_crashed' } });
      // On Kubernetes it names the Deployment, which stays.
      if (engine.name !== 'kubernetes') expect(detail.container_id).not.toBe(container_id);
    });
    await manager.remove(id);
  });

  it('tells of a file that can not be loaded what it printed, and leaves nothing behind', async () => {
    const before = (await stage.manager.send('/functions')).text;
    const workers = await stage.room.workers();
    const answer = await stage.manager.send('/functions', { method: 'POST', ...upload('import no_such_package\n') });
    expect([422, 503]).toContain(answer.status);
    expect(answer.text).toContain('no_such_package');
    expect((await stage.manager.send('/functions')).text).toBe(before);
    expect(await stage.room.workers()).toEqual(workers);
  });
});
