import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { docker } from '../docker/support/docker-tests.js';
import { addressOn, Impostor } from '../docker/support/impostor.js';
import { EngineLine } from '../support/engine-outage.js';
import { describeOnPlainImage } from '../support/engines.js';
import { OBEDIENT } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

await describeOnPlainImage('the address of a plain image’s container that is given to another one', (engine) => {
  const stage = Stage.on(engine);
  let line: EngineLine;
  let impostor: Impostor;
  let manager: TestManager;
  let network: string;

  beforeAll(async () => {
    network = stage.room.env['DOCKER_NETWORK']!;
    line = await EngineLine.open();
    impostor = await Impostor.start();
    // The manager that the stage starts by itself would go on acting in this one's place.
    await stage.manager.stop();
    vi.stubEnv('DOCKER_HOST', line.host);
    manager = await stage.start();
    vi.unstubAllEnvs();
  });
  afterAll(async () => {
    await impostor.remove();
    await manager.stop();
    await line.close();
  });

  it('never answers a call of the function that had it, though the manager learns of nothing', async () => {
    const { id, container_id: container } = await manager.add(OBEDIENT);
    expect((await manager.call(id, 'mine')).text).toBe('{"result": "mine"}');
    const address = await addressOn(container, network);
    await line.cut();
    expect((await manager.call(id, 'kept')).text).toBe('{"result": "kept"}');
    await docker.getContainer(container).kill();
    await docker.getContainer(container).wait();
    await vi.waitFor(async () => expect(await addressOn(container, network)).toBe(''));
    expect(await impostor.move(network)).toBe(address);
    await vi.waitFor(async () => expect(await impostor.calls()).toBe(0));

    // The first may still find its kept connection closing.
    await manager.call(id, 'whose?');
    expectProblem(await manager.call(id, 'whose?'), 503, 'orchestrator_unavailable');
    await line.mend();
    await vi.waitFor(
      async () => {
        const answer = await manager.call(id, 'again');
        expect(answer.text).not.toContain('impostor');
        expect(answer.text).toBe('{"result": "again"}');
      },
      { timeout: 40_000 },
    );
    expect(await impostor.calls()).toBe(0);
    await manager.remove(id);
  });
});
