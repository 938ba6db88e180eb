import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { EngineLine } from '../support/engine-outage.js';
import { describeOnDocker, describeOnEachEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

describeOnDocker('an engine that goes away and comes back', (engine) => {
  const stage = Stage.on(engine);
  let line: EngineLine;
  let manager: TestManager;
  const add = async () => (await manager.add(ECHO)).id;

  beforeAll(async () => {
    line = await EngineLine.open();
    // The manager that the stage starts by itself would go on acting in this one's place.
    await stage.manager.stop();
    vi.stubEnv('DOCKER_HOST', line.host);
    manager = await stage.start();
    vi.unstubAllEnvs();
  });
  afterAll(async () => {
    await manager.stop();
    await line.close();
  });

  it('costs uploads and removals their success, but no call to a function that runs', async () => {
    const [kept, removed] = [await add(), await add()];
    expect((await manager.call(kept, 'warm')).status).toBe(200);
    await line.cut();

    expect((await manager.call(kept, 'still')).text).toBe('{"result":"still"}');
    expectProblem(
      await manager.send('/functions', { method: 'POST', ...upload(ECHO) }),
      503,
      'orchestrator_unavailable',
    );
    const removal = await manager.remove(removed);
    expect(removal.status).toBe(202);
    expect(removal.json()).toMatchObject({ id: removed, status: 'deleting' });
    expectProblem(await manager.call(removed), 409, 'function_not_runnable');
    expect((await manager.remove(removed)).status).toBe(202);

    const ready = await manager.send('/readyz');
    expect(ready.status).toBe(503);
    expect(ready.json()).toMatchObject({ status: 'error', error: { engine: { status: 'down', engine: 'docker' } } });
    expect((await manager.send('/livez')).status).toBe(200);

    await line.mend();
    await vi.waitFor(
      async () => {
        const functions = (await manager.send('/functions')).json() as { id: string }[];
        expect(functions.map(({ id }) => id)).toEqual([kept]);
        expect(await stage.room.workers()).toHaveLength(1);
      },
      { timeout: 40_000 },
    );
    expect((await manager.send('/readyz')).status).toBe(200);
    expect((await manager.call(kept, 'after')).text).toBe('{"result":"after"}');
    expect((await manager.call(await add(), 'new')).text).toBe('{"result":"new"}');
  });
});

describeOnEachEngine('a manager that never reaches its engine', (engine) => {
  const stage = Stage.on(engine);

  describe('started while there is none', () => {
    it('serves, says that it is not ready, and refuses uploads with 503', async () => {
      await stage.manager.stop();
      const { nowhere } = stage.room;
      // The Docker client reads the environment by itself.
      for (const [name, value] of Object.entries(nowhere)) vi.stubEnv(name, value);
      const manager = await stage.start(nowhere);
      vi.unstubAllEnvs();
      expect((await manager.send('/readyz')).status).toBe(503);
      const answer = await manager.send('/functions', { method: 'POST', ...upload(ECHO) });
      const problem = expectProblem(answer, 503, 'orchestrator_unavailable');
      expect(problem.detail).toMatch(new RegExp(`^The ${engine.name} engine can't (be reached|run workers): `, 'i'));
      await manager.stop();
      // Another manager that has one clears away what was recorded.
      const next = await stage.start();
      await vi.waitFor(async () => expect((await next.send('/functions')).text).toBe('[]'), { timeout: 40_000 });
    });
  });
});
