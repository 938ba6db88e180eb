import { setTimeout as delay } from 'node:timers/promises';
import type Docker from 'dockerode';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import type { Observed } from '#libs/orchestrator/workload.js';
import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { anonymousVolumes, containersOf, dockerStage, endStage, python, volumeNames } from './support/docker-stage.js';
import { docker, testConfig, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';
import { LABEL } from '#libs/orchestrator-docker/labels.js';

const ECHO = python('def handle(payload: str):\n    return payload\n');
const REVISED = python('def handle(payload: str):\n    return [payload]\n');
async function nameOf(seen: Observed): Promise<string> {
  return (await docker.getContainer(seen.primary).inspect()).Name;
}

/** An engine that is slow at giving a container a function's own name, and tells of what it is asked to stop. */
function slowAtNaming(stopped: string[]): Docker {
  const engine = connectDocker();
  const getContainer = engine.getContainer.bind(engine);
  return Object.assign(engine, {
    getContainer: (id: string) => {
      const container = getContainer(id);
      const rename = container.rename.bind(container);
      const stop = container.stop.bind(container);
      return Object.assign(container, {
        rename: async (asked: { name: string }) => {
          if (/^faas-worker-[a-z2-7]+$/.test(asked.name)) await delay(2_000);
          return rename(asked) as Promise<unknown>;
        },
        stop: (asked: object) => {
          stopped.push(id);
          return stop(asked) as Promise<unknown>;
        },
      });
    },
  });
}

const reason = await whyNoDocker(WORKER_IMAGE);

describe.skipIf(reason !== undefined)('Docker provider: healing', { timeout: 90_000 }, () => {
  let stage: Stage;
  beforeEach(() => {
    stage = dockerStage(testConfig());
  });
  afterEach(() => endStage(stage));

  it('hears of a container removed by hand and replaces it', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(ECHO);
    const before = await stage.settleReady(manager, workload);
    const watching = stage.watch(manager);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const hint = watching.hint(workload.functionId);
    await docker.getContainer(before.primary).remove({ force: true, v: true });
    await hint;
    const after = await stage.settleReady(manager, workload);
    expect(after.primary).not.toBe(before.primary);
    expect(await nameOf(after)).toBe(`/faas-worker-${workload.functionId}`);
  });

  it('gives the function’s own name to the replacement of a killed replica', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(ECHO, { replicas: 2 });
    const before = await stage.settleReady(manager, workload);
    await docker.getContainer(before.primary).kill();
    const settled = await stage.settleReady(manager, workload);
    const after = await stage.ensure(manager, workload);
    expect(after.replicas).toBe(2);
    expect(settled.primary).not.toBe(before.primary);
    expect(await nameOf(after)).toBe(`/faas-worker-${workload.functionId}`);
    expect(await containersOf(stage.owner)).toHaveLength(2);
  });

  it('stops a former replica only once the step that replaced it is over, however long that takes', async () => {
    const stopped: string[] = [];
    const slow = dockerStage(testConfig(), () => slowAtNaming(stopped));
    try {
      const manager = await slow.manager();
      const workload = slow.workload(ECHO);
      const before = await slow.settleReady(manager, workload);
      const after = await slow.settleReady(manager, slow.revised(workload, REVISED));
      expect(await nameOf(after)).toBe(`/faas-worker-${workload.functionId}`);
      expect(stopped).toEqual([]);
      await vi.waitFor(() => expect(stopped).toEqual([before.primary]), { timeout: 10_000 });
    } finally {
      await endStage(slow);
    }
  });

  it('keeps an ended replica unreplaced until the backoff is over', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(ECHO);
    const before = await stage.settleReady(manager, workload);
    await docker.getContainer(before.primary).kill();
    const held = { ...workload, replaceEndedFrom: new Date(Date.now() + 60_000) };
    const seen = await stage.settle(manager, held, ({ ready }) => ready === 0);
    expect(seen).toMatchObject({ replicas: 0, reason: { code: 'worker_crashed' } });
    expect((await stage.ensure(manager, held)).reason).toEqual(seen.reason);
    expect(await containersOf(stage.owner)).toHaveLength(1);
    expect((await stage.settleReady(manager, workload)).primary).not.toBe(before.primary);
  });

  it('replaces a container that was created and never started', async () => {
    const workload = stage.workload(ECHO);
    await docker.createContainer({
      name: `faas-worker-${workload.functionId}`,
      Image: WORKER_IMAGE,
      Labels: { [LABEL.owner]: stage.owner, [LABEL.functionId]: workload.functionId, [LABEL.spec]: 'half' },
      HostConfig: { Mounts: [{ Type: 'volume', Source: '', Target: '/app/function' }] },
    });
    const volumes = await anonymousVolumes();
    const manager = await stage.manager();
    expect(await stage.list(manager)).toEqual([workload.functionId]);
    const seen = await stage.settleReady(manager, workload);
    expect(await nameOf(seen)).toBe(`/faas-worker-${workload.functionId}`);
    expect(await containersOf(stage.owner)).toHaveLength(1);
    expect((await anonymousVolumes()).length).toBeLessThanOrEqual(volumes.length);
  });

  it('tells of a replica that was let go until it is gone, so that a manager that follows a killed one ends it', async () => {
    const workload = stage.workload(ECHO);
    const asleep = { ...workload, replicas: 0 };
    const killed = await stage.manager();
    await stage.settleReady(killed, workload);
    expect(await stage.ensure(killed, asleep)).toMatchObject({ replicas: 0, leaving: 1 });
    await killed.close();
    const next = await stage.manager();
    expect(await stage.ensure(next, asleep)).toMatchObject({ replicas: 0, leaving: 1 });
    const gone = await stage.settle(next, asleep, ({ leaving = 0 }) => leaving === 0);
    expect(gone.replicas).toBe(0);
    expect(await containersOf(stage.owner)).toEqual([]);
  });

  it('leaves no volume behind', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(ECHO, { replicas: 2 });
    const seen = await stage.settleReady(manager, workload);
    const mounted = await Promise.all(seen.endpoints.map(({ replica }) => docker.getContainer(replica).inspect()));
    const volumes = mounted.flatMap(({ Mounts }) => Mounts.flatMap(({ Name }) => Name ?? []));
    expect(volumes).toHaveLength(2);
    expect(await volumeNames()).toEqual(expect.arrayContaining(volumes));
    await stage.remove(manager, workload.functionId);
    const left = await volumeNames();
    for (const volume of volumes) expect(left).not.toContain(volume);
  });

  it('collects its volumes that no container has, though an engine that was killed lost their labels', async () => {
    const manager = await stage.manager();
    const seen = await stage.settleReady(manager, stage.workload(ECHO));
    const [used] = (await docker.getContainer(seen.primary).inspect()).Mounts.map(({ Name }) => Name ?? '');
    const orphan = `${used!.slice(0, -16)}0123456789abcdef`;
    const strangers = `${used!.slice(0, -17)}0-0123456789abcdef`;
    for (const Name of [orphan, strangers]) await docker.createVolume({ Name });
    try {
      expect(await stage.list(manager)).toHaveLength(1);
      const left = await volumeNames();
      expect(left).toEqual(expect.arrayContaining([used, strangers]));
      expect(left).not.toContain(orphan);
    } finally {
      await docker.getVolume(strangers).remove();
    }
  });

  it('replaces a replica that stopped answering', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(ECHO, { limits: { ...stage.workload(ECHO).limits, timeoutMs: 1_000 } });
    const before = await stage.settleReady(manager, workload);
    const watching = stage.watch(manager);
    await docker.getContainer(before.primary).pause();
    await watching.hint(workload.functionId);
    const after = await stage.settle(manager, workload, (seen) => seen.ready === 1 && seen.primary !== before.primary);
    expect((await stage.call(after.endpoints[0], 'x')).body).toEqual({ result: 'x' });
    await stage.until(
      'the paused container is gone',
      () => containersOf(stage.owner),
      (left) => left.length === 1,
    );
  });
});
