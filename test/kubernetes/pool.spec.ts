import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import {
  loadAllYaml,
  type V1Deployment,
  type V1EndpointSlice,
  type V1Pod,
  type V1PriorityClass,
} from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import type { PoolConfig } from '#libs/config/config.js';
import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { answering, NOT_LOADABLE, NOT_LOADABLE_LINE } from '#libs/orchestrator/testing/contract.handlers.js';
import type { FunctionId, Observed, Workload } from '#libs/orchestrator/workload.js';
import { CONFIG_MAP, DEPLOYMENT, ENDPOINT_SLICE, POD, SERVICE } from '#libs/orchestrator-kubernetes/kinds.js';
import { podOf } from '#libs/orchestrator-kubernetes/replica.js';
import { foreignObject } from './support/foreign-object.js';
import { PoolView } from './support/pool-pods.js';
import { ProviderSuite } from './support/provider.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

/** As the workloads of a stage are limited. */
const POOL: PoolConfig = { size: 2, memoryMiB: 256, cpuMillis: 500, pids: 64 };

describe.skipIf(noCluster)('the pool of generic pods [kubernetes]', () => {
  const suite = ProviderSuite.on({}, { HPA_MAX_REPLICAS: '1' }, POOL);
  const pool = () => new PoolView(suite.cluster, suite.stage.owner);
  const podsOf = ({ endpoints }: Observed) => endpoints.map(({ replica }) => podOf(replica));
  const deployment = (id: FunctionId) => suite.cluster.get(DEPLOYMENT, `faas-worker-${id}`) as Promise<V1Deployment>;

  /** The function's own pods don't come up until `let go`. */
  async function holdOwnPods(): Promise<void> {
    await suite.cluster.refuse({ plural: 'pods' }, 'not now');
  }

  async function answersOf(seen: Observed, word: string): Promise<void> {
    for (const endpoint of seen.endpoints) {
      expect((await suite.stage.call(endpoint, 'x')).body).toEqual({ result: `${word}:x` });
    }
  }

  const servedByOwn = (manager: Orchestrator, workload: Workload) =>
    suite.stage.settle(manager, workload, (seen) => {
      const pods = podsOf(seen);
      const isDone = pods.length === workload.replicas && seen.ready === workload.replicas;
      return isDone && pods.every((name) => name.startsWith('faas-worker-'));
    });

  const withoutPoolPods = (functionId: FunctionId) =>
    suite.stage.until(
      'no pod of the pool serves it',
      () => pool().of(functionId),
      (names) => names.length === 0,
    );

  it('serves a new function at once, by a pod that its Deployment and Service know nothing of, then by its own', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    const waiting = await pool().waiting();
    const workload = stage.workload(answering('one'));
    const { functionId } = workload;
    const first = await stage.settleReady(manager, workload);
    const [poolPod = ''] = podsOf(first);
    expect(waiting).toContain(poolPod);
    await answersOf(first, 'one');
    const { selector } = (await deployment(functionId)).spec!;
    const labels = (await cluster.get(POD, poolPod)).metadata?.labels ?? {};
    expect(Object.entries(selector.matchLabels!).every(([key, value]) => labels[key] === value)).toBe(false);

    await answersOf(await servedByOwn(manager, workload), 'one');
    await withoutPoolPods(functionId);
    const slices = (await cluster.ours(ENDPOINT_SLICE)) as V1EndpointSlice[];
    const targets = slices.flatMap(({ endpoints }) => (endpoints ?? []).map(({ targetRef }) => targetRef?.name ?? ''));
    expect(targets.every((name) => name.startsWith('faas-worker-'))).toBe(true);
    expect(await pool().filled(2)).not.toContain(poolPod);
    expect(await stage.list(manager)).toEqual([functionId]);
  });

  it('wakes a function that sleeps', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    await servedByOwn(manager, workload);
    await stage.settle(manager, { ...workload, replicas: 0 }, ({ replicas }) => replicas === 0);
    const waiting = await pool().filled(2);
    const woken = await stage.settleReady(manager, workload);
    expect(waiting).toContain(podsOf(woken)[0]);
    await answersOf(woken, 'one');
    await servedByOwn(manager, workload);
    expect((await deployment(workload.functionId)).spec?.replicas).toBe(1);
  });

  it('lets a call in flight come to its end when the function’s own pod takes over', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    const slow =
      'import asyncio\n\nasync def handle(payload):\n    await asyncio.sleep(float(payload))\n    return "slept"\n';
    const workload = stage.workload({ functionName: 'handle', source: slow });
    const { endpoints } = await stage.settleReady(manager, workload);
    const call = stage.call(endpoints[0], '6');
    await servedByOwn(manager, workload);
    await withoutPoolPods(workload.functionId);
    expect((await call).body).toEqual({ result: 'slept' });
  });

  it('serves on by a pod of the pool while the function’s own pods can’t come, also of another manager', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    await holdOwnPods();
    const workload = stage.workload(answering('one'));
    const first = await stage.settleReady(manager, workload);
    const other = suite.provider({}, stage.owner, { ...POOL, size: 0 });
    try {
      const seen = await stage.ensure(other, workload);
      expect(podsOf(seen)).toEqual(podsOf(first));
      expect(seen.reason).toMatchObject({ code: 'rejected', message: expect.stringContaining('not now') });
      await answersOf(seen, 'one');
    } finally {
      await other.close();
    }
    await cluster.admitAll();
    await servedByOwn(manager, workload);
  });

  it('is right about an update and a sleep while a pod of the pool serves', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    await holdOwnPods();
    const workload = stage.workload(answering('one'));
    await answersOf(await stage.settleReady(manager, workload), 'one');
    const changed = stage.revised(workload, answering('two'));
    // The former code goes on until the new one is ready, as in any update.
    await answersOf(await stage.ensure(manager, changed), 'one');
    await cluster.admitAll();
    await answersOf(await servedByOwn(manager, changed), 'two');
    await withoutPoolPods(workload.functionId);

    await stage.settle(manager, { ...changed, replicas: 0 }, ({ replicas }) => replicas === 0);
    await pool().filled(1);
    await holdOwnPods();
    const woken = await stage.settleReady(manager, changed);
    await answersOf(woken, 'two');
    const asleep = await stage.ensure(manager, { ...changed, replicas: 0 });
    expect(asleep).toMatchObject({ ready: 0, endpoints: [] });
    await withoutPoolPods(workload.functionId);
    await cluster.admitAll();
  });

  it('leaves nothing of a function that is removed while a pod of the pool serves', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    await holdOwnPods();
    const workload = stage.workload(answering('one'));
    await stage.settleReady(manager, workload);
    await stage.remove(manager, workload.functionId);
    expect(await cluster.of(workload.functionId)).toEqual([]);
    expect(await stage.list(manager)).toEqual([]);
    await cluster.admitAll();
  });

  it('tells why a handler can’t be loaded, and keeps no pod for it', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(NOT_LOADABLE);
    const { reason } = await stage.settle(manager, workload, (seen) => seen.reason?.terminal === true);
    expect(reason).toMatchObject({ code: 'handler_not_loadable', line: NOT_LOADABLE_LINE });
    await withoutPoolPods(workload.functionId);
    expect((await stage.ensure(manager, workload)).endpoints).toEqual([]);
    expect(await pool().of(workload.functionId)).toEqual([]);
  });

  it('gives no pod of the pool to a function that the cluster refuses', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const { functionId } = workload;
    await cluster.objects.create(foreignObject(SERVICE, `service-${functionId}`, cluster.namespace));
    const seen = await stage.ensure(manager, workload);
    expect(seen).toMatchObject({ ready: 0, endpoints: [], reason: { code: 'rejected' } });
    await withoutPoolPods(functionId);
    await cluster.delete(SERVICE, `service-${functionId}`);
  });

  it('starts a function cold when its workers have died, or have other limits than the function', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    const wide = stage.workload(answering('wide'));
    const limited = { ...wide, limits: { ...wide.limits, memoryMiB: 300 } };
    const seen = await stage.ensure(manager, limited);
    expect(seen).toMatchObject({ ready: 0, endpoints: [] });
    for (const name of await pool().waiting()) await cluster.node.kill(name);
    const cold = stage.workload(answering('cold'));
    expect((await stage.ensure(manager, cold)).endpoints).toEqual([]);
    await answersOf(await servedByOwn(manager, limited), 'wide');
    await answersOf(await servedByOwn(manager, cold), 'cold');
  });

  it('never gives one pod to two functions, whichever of two managers serves them', async () => {
    const { stage } = suite;
    const managers = [await stage.manager(), await stage.manager()];
    const workloads = Array.from({ length: 8 }, (_, index) => stage.workload(answering(`word${index}`)));
    const first = await Promise.all(workloads.map((workload, at) => stage.settleReady(managers[at % 2]!, workload)));
    const poolPods = first.flatMap(podsOf).filter((name) => !name.startsWith('faas-worker-'));
    expect(poolPods.length).toBeGreaterThanOrEqual(2);
    expect(new Set(poolPods).size).toBe(poolPods.length);
    await Promise.all(first.map((seen, index) => answersOf(seen, `word${index}`)));
    const last = await Promise.all(workloads.map((workload, at) => servedByOwn(managers[at % 2]!, workload)));
    await Promise.all(last.map((seen, index) => answersOf(seen, `word${index}`)));
    for (const name of await pool().waiting()) expect(poolPods).not.toContain(name);
  });

  it('makes room where a function lacks it', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    // Pods of earlier tests that are still leaving count too, and engines try again ever later.
    await stage.until(
      'only the pool is there',
      () => cluster.ours(POD),
      (pods) => pods.length === POOL.size,
    );
    const spec = { hard: { pods: '3' } };
    await cluster.core.createNamespacedResourceQuota({
      namespace: cluster.namespace,
      body: { metadata: { name: 'small' }, spec },
    });
    const two = stage.workload(answering('two'), { replicas: 2 });
    const one = stage.workload(answering('one'));
    await answersOf(await servedByOwn(manager, two), 'two');
    await answersOf(await servedByOwn(manager, one), 'one');
    await cluster.core.deleteNamespacedResourceQuota({ namespace: cluster.namespace, name: 'small' });
  });

  it('goes with the object that it hangs on, which lets drains take it, and comes back with it', async () => {
    const { stage, cluster } = suite;
    await stage.manager();
    const nameOf = ({ metadata }: V1Pod) => metadata?.name ?? '';
    const before = await pool().all();
    const former = await cluster.get(CONFIG_MAP, 'faas-pool');
    await cluster.delete(CONFIG_MAP, 'faas-pool');
    await pool().filled(2, before.map(nameOf));
    const owner = await cluster.get(CONFIG_MAP, 'faas-pool');
    expect(owner.metadata?.uid).not.toBe(former.metadata?.uid);
    const after = (await pool().all()).filter((pod) => !before.map(nameOf).includes(nameOf(pod)));
    for (const [pods, uid] of [
      [before, former.metadata?.uid],
      [after, owner.metadata?.uid],
    ] as const) {
      for (const { metadata } of pods) {
        expect(metadata?.ownerReferences).toMatchObject([
          { kind: 'ConfigMap', name: 'faas-pool', uid, controller: true },
        ]);
      }
    }
  });

  it('has the priority that its class says, and none where there is no such class', async () => {
    const { stage, cluster } = suite;
    const name = `${cluster.namespace}-pool`;
    const priorities = async () => {
      const owner = `${stage.owner}-${randomBytes(4).toString('hex')}`;
      const manager = suite.provider({ KUBERNETES_POOL_PRIORITY_CLASS: name }, owner);
      try {
        void manager.watch(() => undefined, stage.signal());
        const view = new PoolView(cluster, owner);
        await view.filled(2);
        return (await view.all()).map(({ spec }) => [spec?.priorityClassName, spec?.priority]);
      } finally {
        await manager.close();
      }
    };
    expect(await priorities()).toEqual([
      [undefined, 0],
      [undefined, 0],
    ]);
    const [shipped] = loadAllYaml(readFileSync('k8s/functions/priority-class.yaml', 'utf8')) as [V1PriorityClass];
    await cluster.objects.create({ ...shipped, metadata: { name } });
    try {
      expect(await priorities()).toEqual([
        [name, -10],
        [name, -10],
      ]);
    } finally {
      await cluster.objects.delete({ ...shipped, metadata: { name } });
    }
  });

  it('is none where it is switched off, and goes with its manager', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    expect(await pool().all()).toHaveLength(2);
    await manager.close();
    await stage.until(
      'its pods are gone',
      () => pool().all(),
      (pods) => pods.length === 0,
    );
    const off = suite.provider({}, stage.owner, { ...POOL, size: 0 });
    const workload = stage.workload(answering('one'));
    expect((await stage.ensure(off, workload)).endpoints).toEqual([]);
    await servedByOwn(off, workload);
    expect(await pool().all()).toEqual([]);
    await stage.remove(off, workload.functionId);
    await off.close();
  });
});
