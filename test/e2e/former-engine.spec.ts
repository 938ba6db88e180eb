import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { EngineRoom } from '../support/engine.js';
import { describeOnBothEngines } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { Stage } from '../support/stage.js';

describeOnBothEngines('functions whose DEPLOYMENT_ENV was changed', (process, docker) => {
  const stage = Stage.on(process);
  let docks: EngineRoom;
  beforeAll(async () => {
    docks = await docker.openRoom();
  });
  afterAll(() => docks.clear());

  it('move to the other engine and back, and nothing of theirs is left on the former one', async () => {
    const { manager, room } = stage;
    const { id } = await manager.add(ECHO);
    await manager.stop();

    const moved = await stage.start(docks.env);
    expect((await moved.call(id, 'x')).text).toBe('{"result":"x"}');
    await vi.waitFor(async () => expect(await room.workers()).toEqual([]), { timeout: 30_000 });
    await vi.waitFor(async () => expect(await docks.workers()).toHaveLength(1), { timeout: 30_000 });
    expect(moved.log).toMatch(/"former":"process","engine":"docker".*ran on process until now and move to docker/);
    await moved.stop();

    const back = await stage.start();
    expect((await back.call(id, 'y')).text).toBe('{"result":"y"}');
    await vi.waitFor(async () => expect(await docks.workers()).toEqual([]), { timeout: 30_000 });
    await vi.waitFor(async () => expect(await room.workers()).toHaveLength(1), { timeout: 30_000 });
    await vi.waitFor(() => expect(back.log).toContain('is left on docker'));
    await back.stop();
  });

  it('leave no doubt about workers on a former engine that can’t be reached, and these go once it can', async () => {
    const onDocker = await stage.start(docks.env);
    const { id } = await onDocker.add(ECHO);
    await onDocker.stop();

    vi.stubEnv('DOCKER_HOST', 'unix:///nowhere/docker.sock');
    const alone = await stage.start();
    expect((await alone.call(id, 'x')).text).toBe('{"result":"x"}');
    await vi.waitFor(() => expect(alone.log).toMatch(/may still run on docker: start the manager again/));
    expect(await docks.workers()).not.toEqual([]);
    await alone.stop();
    vi.unstubAllEnvs();

    const sighted = await stage.start();
    await vi.waitFor(async () => expect(await docks.workers()).toEqual([]), { timeout: 30_000 });
    expect((await sighted.call(id, 'y')).text).toBe('{"result":"y"}');
    await sighted.stop();
  });
});
