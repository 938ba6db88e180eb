import type { V1Deployment, V2HorizontalPodAutoscaler } from '@kubernetes/client-node';
import { describe, expect, it, vi } from 'vitest';
import { answering, NOT_LOADABLE } from '#libs/orchestrator/testing/contract.handlers.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { AUTOSCALER, DEPLOYMENT } from '#libs/orchestrator-kubernetes/kinds.js';
import { setLoad, whyNoControlPlane } from './control-plane/shared.js';
import { ProviderSuite } from './support/provider.js';

const noCluster = whyNoControlPlane() !== undefined;

describe.skipIf(noCluster)("replicas that are another's to choose [kubernetes]", () => {
  const suite = ProviderSuite.on({}, { HPA_MAX_REPLICAS: '4', HPA_UP_WINDOW_SECONDS: '0', HPA_UP_PODS: '4' });
  const deployment = (id: FunctionId) => suite.cluster.get(DEPLOYMENT, `faas-worker-${id}`) as Promise<V1Deployment>;
  const autoscaler = (id: FunctionId) =>
    suite.cluster.get(AUTOSCALER, `hpa-${id}`) as Promise<V2HorizontalPodAutoscaler>;
  const desire = (id: FunctionId, replicas?: number) =>
    setLoad({ namespace: suite.cluster.namespace, autoscaler: `hpa-${id}`, replicas });

  it('stay as the autoscaler set them, through every step and another revision', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const { functionId } = workload;
    await stage.settleReady(manager, workload);
    await desire(functionId, 3);
    await stage.settle(manager, workload, ({ ready, endpoints }) => ready === 3 && endpoints.length === 3);
    const changed = stage.revised(workload, answering('two'));
    const seen = await stage.settle(manager, changed, ({ ready, endpoints }) => ready === 3 && endpoints.length === 3);
    for (const endpoint of seen.endpoints) {
      expect((await stage.call(endpoint, 'x')).body).toEqual({ result: 'two:x' });
    }
    expect((await deployment(functionId)).spec?.replicas).toBe(3);
  });

  it('are none while a function sleeps, with its autoscaler left in peace, and enough again when it wakes', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const { functionId } = workload;
    await stage.settleReady(manager, workload);
    const before = await autoscaler(functionId);
    const asleep = await stage.settle(manager, { ...workload, replicas: 0 }, ({ replicas }) => replicas === 0);
    expect(asleep.endpoints).toEqual([]);
    await vi.waitFor(async () => expect(await suite.cluster.of(functionId)).toEqual([]), 20_000);
    // What the load asks for counts for nothing where there is none.
    await desire(functionId, 4);
    await stage.ensure(manager, { ...workload, replicas: 0 });
    expect((await deployment(functionId)).spec?.replicas).toBe(0);
    const during = await autoscaler(functionId);
    expect([during.metadata?.uid, during.spec]).toEqual([before.metadata?.uid, before.spec]);
    await desire(functionId);
    await stage.settleReady(manager, { ...workload, replicas: 2 });
    expect((await deployment(functionId)).spec?.replicas).toBe(2);
    expect((await autoscaler(functionId)).spec?.minReplicas).toBe(2);
  });

  it('are none for code that can’t be loaded, also after a sleep, until there is other code', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(NOT_LOADABLE);
    const { functionId } = workload;
    const hopeless = await stage.settle(manager, workload, ({ reason }) => reason?.terminal === true);
    expect(hopeless.reason).toMatchObject({ code: 'handler_not_loadable' });
    // A step whose change meets another's leaves it to the next one.
    const none = () =>
      vi.waitFor(async () => {
        await stage.ensure(manager, workload);
        expect((await deployment(functionId)).spec?.replicas).toBe(0);
      }, 60_000);
    await none();
    await desire(functionId, 4);
    for (const replicas of [0, 1]) await stage.ensure(manager, { ...workload, replicas });
    await none();
    await desire(functionId);
    const changed = stage.revised(workload, answering('two'));
    const seen = await stage.settleReady(manager, changed);
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'two:x' });
  });
});
