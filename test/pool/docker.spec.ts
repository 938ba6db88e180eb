import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DockerEngine } from '#libs/orchestrator-docker/docker-engine.js';
import { Claims } from '#libs/orchestrator-docker/claims.js';
import { slotName } from '#libs/orchestrator-docker/replica.js';
import { specHash } from '#libs/orchestrator/spec-hash.js';
import { answering, SLEEPY } from '#libs/orchestrator/testing/contract.handlers.js';
import { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { containersOf, dockerStage } from '../docker/support/docker-stage.js';
import {
  docker,
  PLAIN_IMAGE,
  POOL,
  removeNetwork,
  testConfig,
  whyNoDocker,
  WORKER_IMAGE,
} from '../docker/support/docker-tests.js';
import { describeSkipped } from '../support/skipped.js';
import { describePool } from './support/describe-pool.js';
import { dockerPool } from './support/docker-pool.js';

const reason = await whyNoDocker(WORKER_IMAGE, PLAIN_IMAGE);
if (reason !== undefined) describeSkipped('warm pool: docker', reason);
else describePool('docker', dockerPool);

describe.skipIf(reason !== undefined)('warm pool: what a killed manager leaves on Docker', { timeout: 300_000 }, () => {
  const site = dockerPool();
  let stage: Stage;
  beforeEach(() => {
    stage = new Stage(site.harness, { deadlineMs: 90_000 });
  });
  afterEach(async () => {
    vi.useRealTimers();
    await stage.close();
  });
  afterAll(() => site.harness.close());

  const nameOf = async (id: string) => (await docker.getContainer(id).inspect()).Name.slice(1);

  /** A function that serves, and its next revision, for which workers wait. */
  const replacedFrom = async () => {
    const manager = await stage.manager();
    const former = stage.workload(answering('one'));
    const before = await stage.settleReady(manager, former);
    await vi.waitFor(() => expect(manager.warmPool?.counts().ready).toBeGreaterThan(0), { timeout: 60_000 });
    return { manager, former, before, next: stage.revised(former, answering('two')) };
  };

  it('never counts a worker that was taken and not given its function', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const [member = ''] = await site.waiting(stage.owner);
    const { image, network, internal } = site.config;
    await new Claims(new DockerEngine(docker), stage.owner).make(
      member,
      workload,
      specHash(workload, { image, network, internal }),
      stage.signal(),
    );
    await docker.getContainer(member).rename({ name: slotName(workload.functionId, 1) });

    const other = await stage.manager();
    const seen = await stage.settleReady(other, workload);
    expect(seen.endpoints[0]?.replica).not.toBe(member);
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
    expect((await containersOf(stage.owner)).map(({ Id }) => Id)).not.toContain(member);
    expect(await stage.list(manager)).toEqual([workload.functionId]);
  });

  it('replaces a replica whose claim is lost, without a moment without an answer', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const before = await stage.settleReady(manager, workload);
    const successor = await stage.restart(manager);
    await docker.getVolume(`faas-claim-${before.primary}`).remove();
    const during = await stage.ensure(successor, workload);
    expect(during.endpoints.length).toBeGreaterThan(0);
    const after = await stage.settle(
      successor,
      workload,
      ({ endpoints, ready }) => ready === 1 && endpoints[0]?.replica !== before.primary,
    );
    expect((await stage.call(after.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
  });

  it('lets the former revision go, and takes over its name, after the new one has answered', async () => {
    const { manager, former, before, next } = await replacedFrom();
    const seen = await stage.ensure(manager, next);
    expect(seen).toMatchObject({ replicas: 1, ready: 1, isUnfinished: true });
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'two:x' });

    // The manager dies here, and the revision that has taken over is what the next one is told of.
    const { formerRevision: _, ...taken } = next;
    const successor = await stage.restart(manager);
    const after = await stage.ensure(successor, taken);
    expect(after).toMatchObject({ replicas: 1, ready: 1 });
    expect(after.isUnfinished).toBeUndefined();
    expect(after.endpoints.map(({ replica }) => replica)).toEqual([seen.primary]);
    expect(await nameOf(seen.primary)).toBe(slotName(former.functionId, 1));
    await stage.untilGone(before.endpoints[0]);
  });

  it('gives the former revision no calls back when the new one is lost before that', async () => {
    const { manager, before, next } = await replacedFrom();
    const seen = await stage.ensure(manager, next);
    const { formerRevision: _, ...taken } = next;
    const successor = await stage.restart(manager);
    await docker.getContainer(seen.primary).remove({ force: true });
    const after = await stage.settle(successor, taken, ({ endpoints, ready }) => {
      expect(endpoints.map(({ replica }) => replica)).not.toContain(before.primary);
      return ready === 1;
    });
    expect((await stage.call(after.endpoints[0], 'x')).body).toEqual({ result: 'two:x' });
  });

  it('sweeps a worker that was given a function and not its name, after a moment', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const { primary } = await stage.settleReady(manager, workload);
    await docker.getContainer(primary).rename({ name: `faas-pool-orphan-${primary.slice(0, 12)}` });
    expect(await stage.list(manager)).toEqual([]);
    expect((await containersOf(stage.owner)).map(({ Id }) => Id)).toContain(primary);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11_000 });
    await stage.list(manager);
    expect((await containersOf(stage.owner)).map(({ Id }) => Id)).not.toContain(primary);
  });

  it('sweeps a worker that was made and never started, after a moment', async () => {
    const manager = await stage.manager();
    const [member = ''] = await site.waiting(stage.owner);
    const { Config } = await docker.getContainer(member).inspect();
    const half = await docker.createContainer({ Image: Config.Image, Labels: Config.Labels, Env: Config.Env });
    const left = async () => (await containersOf(stage.owner)).map(({ Id }) => Id).includes(half.id);
    await stage.list(manager);
    expect(await left()).toBe(true);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11_000 });
    await stage.list(manager);
    expect(await left()).toBe(false);
    expect((await containersOf(stage.owner)).map(({ Id }) => Id)).toContain(member);
  });

  it('sweeps a claim that an engine killed in the middle has left without labels, and no other volume', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const { primary } = await stage.settleReady(manager, workload);
    const [left, strangers] = [`faas-claim-${randomBytes(32).toString('hex')}`, `faas-claim-of-${stage.owner}`];
    for (const Name of [left, strangers]) await docker.createVolume({ Name });
    try {
      await stage.list(manager);
      const { Volumes } = await docker.listVolumes();
      const names = Volumes.map(({ Name }) => Name);
      expect(names).not.toContain(left);
      expect(names).toEqual(expect.arrayContaining([strangers, `faas-claim-${primary}`]));
    } finally {
      await docker.getVolume(strangers).remove();
    }
  });

  it('lets a worker finish its calls whose place turns out to be taken', async () => {
    const manager = await stage.manager();
    const workload = { ...stage.workload(SLEEPY), isFresh: true };
    const name = slotName(workload.functionId, 1);
    const foreign = await docker.createContainer({ name, Image: WORKER_IMAGE });
    try {
      const calls: Promise<unknown>[] = [];
      await site.waiting(stage.owner);
      const told: number[] = [];
      const seen = await manager.ensure(workload, stage.signal(), (endpoints) => {
        told.push(endpoints.length);
        for (const endpoint of endpoints) calls.push(stage.call(endpoint, '3').then(({ body }) => body));
      });
      expect(told).toEqual([1, 0]);
      expect(seen).toMatchObject({ ready: 0, reason: { code: 'rejected', message: expect.stringContaining(name) } });
      expect(await Promise.all(calls)).toEqual([{ result: 'slept' }]);
    } finally {
      await foreign.remove();
    }
    const after = await stage.settleReady(manager, workload);
    expect((await stage.call(after.endpoints[0], '0')).body).toEqual({ result: 'slept' });
    const names = async () => (await containersOf(stage.owner)).flatMap(({ Names }) => Names);
    await vi.waitFor(async () => expect((await names()).filter((one) => one.includes('leaving'))).toEqual([]), {
      timeout: 60_000,
    });
  });

  it('shows the log of a worker that has calls before its place is taken', async () => {
    const manager = await stage.manager();
    const workload = { ...stage.workload(answering('one')), isFresh: true };
    await site.waiting(stage.owner);
    const listed: Promise<string[]>[] = [];
    const { endpoints } = await manager.ensure(workload, stage.signal(), (told) => {
      if (told.length === 0) return;
      const logs = manager.logs(workload.functionId, stage.signal());
      listed.push(logs.then((found) => found.map(({ replica }) => replica)));
    });
    const replicas = endpoints.map(({ replica }) => replica);
    expect(replicas).toHaveLength(1);
    expect(await Promise.all(listed)).toEqual([replicas]);
    const after = await manager.logs(workload.functionId, stage.signal());
    expect(after.map(({ replica }) => replica)).toEqual(replicas);
  });

  it('hears of a replica from the pool that is removed by hand', async () => {
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const { primary } = await stage.settleReady(manager, workload);
    const watching = stage.watch(manager);
    await vi.waitFor(async () => expect(await site.waiting(stage.owner)).toHaveLength(2), { timeout: 60_000 });
    const hint = watching.hint(workload.functionId);
    await docker.getContainer(primary).remove({ force: true, v: true });
    await hint;
  });
});

describe.skipIf(reason !== undefined)(
  'warm pool: an image that offers the fixed contract only',
  { timeout: 120_000 },
  () => {
    it('is started cold, and nothing is left of the attempt to keep it ready', async () => {
      const config = testConfig({ image: PLAIN_IMAGE });
      const stage = dockerStage(config, undefined, POOL);
      try {
        const manager = await stage.manager();
        const workload = stage.workload(answering('plain'));
        const seen = await stage.settleReady(manager, workload);
        expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'plain:x' });
        await stage.remove(manager, workload.functionId);
        await manager.close();
        expect(await containersOf(stage.owner)).toEqual([]);
      } finally {
        await stage.close();
        await removeNetwork(config.network);
      }
    });
  },
);
