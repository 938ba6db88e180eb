import type { DockerConfig } from '#libs/config/config.js';
import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { dockerStage, endStage, python } from './support/docker-stage.js';
import { docker, PLAIN_IMAGE, testConfig, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';
import { Impostor } from './support/impostor.js';

const reason = await whyNoDocker(PLAIN_IMAGE, WORKER_IMAGE);
const ECHO = python('def handle(payload: str):\n    return payload\n');
const signal = () => AbortSignal.timeout(10_000);

describe.skipIf(reason !== undefined)('the address of a worker on Docker', { timeout: 60_000 }, () => {
  let stage: Stage;
  let config: DockerConfig;
  const open = (changes: Partial<DockerConfig>) => {
    config = testConfig(changes);
    stage = dockerStage(config);
    return stage.manager();
  };
  afterEach(() => endStage(stage));

  it('is guarded by our own worker, and by nobody on a plain image', async () => {
    const ours = await open({});
    expect((await stage.settleReady(ours, stage.workload(ECHO))).endpoints).toMatchObject([{ guard: 'worker' }]);
    await endStage(stage);
    const plain = await open({ image: PLAIN_IMAGE });
    const [endpoint] = (await stage.settleReady(plain, stage.workload(ECHO))).endpoints;
    expect(endpoint!.guard).toBeUndefined();
  });

  it.each(['address', 'published'] as const)('is its own until it ends: %s', async (reach) => {
    const manager = await open({ image: PLAIN_IMAGE, reach });
    const [one, other] = await Promise.all([
      stage.settleReady(manager, stage.workload(ECHO)),
      stage.settleReady(manager, stage.workload(ECHO)),
    ]);
    const [mine, its] = [one.endpoints[0]!, other.endpoints[0]!];
    expect(await manager.confirms(mine, signal())).toBe(true);
    expect(await manager.confirms({ ...mine, address: its.address }, signal())).toBe(false);
    await docker.getContainer(mine.replica).kill();
    await vi.waitFor(async () => expect(await manager.confirms(mine, signal())).toBe(false));
    expect(await manager.confirms(its, signal())).toBe(true);
    await docker.getContainer(mine.replica).remove({ force: true, v: true });
    expect(await manager.confirms(mine, signal())).toBe(false);
  });

  it('is another’s once the engine has given it away', async () => {
    const impostor = await Impostor.start();
    try {
      const manager = await open({ image: PLAIN_IMAGE, reach: 'address' });
      const [endpoint] = (await stage.settleReady(manager, stage.workload(ECHO))).endpoints;
      await docker.getContainer(endpoint!.replica).kill();
      await docker.getContainer(endpoint!.replica).wait();
      const address = await impostor.move(config.network);
      expect(endpoint!.address).toMatchObject({ host: address });
      expect(await manager.confirms(endpoint!, signal())).toBe(false);
    } finally {
      await impostor.remove();
    }
  });
});
