import type { V1Pod, V2HorizontalPodAutoscaler } from '@kubernetes/client-node';
import { describe, expect, it, vi } from 'vitest';
import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { answering } from '#libs/orchestrator/testing/contract.handlers.js';
import type { Observed, Workload } from '#libs/orchestrator/workload.js';
import { AUTOSCALER, DEPLOYMENT, SERVICE } from '#libs/orchestrator-kubernetes/kinds.js';
import { podOf } from '#libs/orchestrator-kubernetes/replica.js';
import { ProviderSuite } from './support/provider.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

const FOREVER = 1_000_000;
/** ConfigMaps, Services, Deployments, autoscalers, pods and EndpointSlices. */
const WATCHES = 6;
/** So long that a worker has been started again meanwhile. */
const LATE_MS = 4_000;
const AT_ONCE = 5;

describe.skipIf(noCluster)('watches [kubernetes]', () => {
  const suite = ProviderSuite.on();

  it('that are cut lose no change that is made until the next', async () => {
    const { stage, cluster } = suite;
    const { node, proxy } = cluster;
    const manager = await stage.manager();
    const watching = stage.watch(manager);
    const workload = stage.workload(answering('one'));
    const { functionId } = workload;
    const before = await stage.settleReady(manager, workload);
    const service = await cluster.get(SERVICE, `service-${functionId}`);

    // No list and no watch of ours is answered while all this happens.
    proxy.throttle(FOREVER, 1);
    proxy.dropWatches();
    await cluster.delete(SERVICE, `service-${functionId}`);
    await cluster.merge(AUTOSCALER, `hpa-${functionId}`, { spec: { maxReplicas: 7 } });
    await node.kill(podOf(before.endpoints[0]?.replica ?? ''));
    await vi.waitFor(async () => {
      const [pod] = (await cluster.of(functionId)) as V1Pod[];
      expect(pod?.status?.containerStatuses?.[0]).toMatchObject({ restartCount: 1, ready: true });
    }, 20_000);
    const hinted = watching.hint(functionId);
    proxy.throttle(0, 1);
    await hinted;

    await settleReplaced(manager, workload, before);
    const remade = await cluster.get(SERVICE, `service-${functionId}`);
    expect(remade.metadata?.uid).not.toBe(service.metadata?.uid);
    const autoscaler = (await cluster.get(AUTOSCALER, `hpa-${functionId}`)) as V2HorizontalPodAutoscaler;
    expect(autoscaler.spec?.maxReplicas).toBe(20);
  });

  it('that ended, and whose history is gone when they go on, lose no change either', async () => {
    const { stage, cluster } = suite;
    const { node, proxy } = cluster;
    const manager = await stage.manager();
    const watching = stage.watch(manager);
    const workload = stage.workload(answering('one'));
    const before = await stage.settleReady(manager, workload);
    const hinted = watching.hint(workload.functionId);

    // The next watches are asked for at once and get to the API server late.
    proxy.latencyMs = LATE_MS;
    proxy.endWatches();
    await node.kill(podOf(before.endpoints[0]?.replica ?? ''));
    await stage.untilGone(before.endpoints[0]);
    await stage.until(
      'it runs again',
      () => stage.call(before.endpoints[0], 'x').catch(() => undefined),
      (answer) => answer?.status === 200,
    );
    await cluster.expireWatches();
    proxy.latencyMs = 0;
    await hinted;
    await settleReplaced(manager, workload, before);
  });

  async function settleReplaced(manager: Orchestrator, workload: Workload, before: Observed): Promise<void> {
    const { stage } = suite;
    const after = await stage.until(
      'the change is seen',
      () => stage.ensure(manager, workload).catch(() => before),
      ({ endpoints }) => endpoints.length === 1 && endpoints[0]?.replica !== before.endpoints[0]?.replica,
    );
    expect((await stage.call(after.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
  }
});

describe.skipIf(noCluster)('twenty functions [kubernetes]', () => {
  // Nobody starts twenty workers here: no node has room for any.
  const suite = ProviderSuite.on({ capacity: { pods: '0' } });

  it('cost each manager one watch for each kind', { timeout: 120_000 }, async () => {
    const { stage, cluster } = suite;
    const { proxy } = cluster;
    // Not the stage's, which removes one after the other what they made; it goes with its cluster here.
    const managers = [suite.provider({}), suite.provider({})] as const;
    const watches = managers.length * WATCHES;
    const workloads = Array.from({ length: 20 }, () => stage.workload(answering('one')));
    const waiting = [...workloads];
    const ensureNext = async (): Promise<void> => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) await stage.ensure(managers[0], next);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, ensureNext));
    const last = workloads.at(-1)!;
    await stage.settle(managers[1], last, ({ replicas }) => replicas === 1);
    expect(proxy.openWatches).toBe(watches);
    proxy.dropWatches();
    await vi.waitFor(async () => expect(proxy.openWatches).toBe(watches), 20_000);
    const ids = workloads.map(({ functionId }) => functionId);
    expect((await stage.list(managers[1])).toSorted()).toEqual(ids.toSorted());
    for (const manager of managers) await manager.close();
    await vi.waitFor(async () => expect(proxy.openWatches).toBe(0), 20_000);
    expect(await cluster.ours(DEPLOYMENT)).toHaveLength(ids.length);
  });
});
