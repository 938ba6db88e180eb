import { describe, expect, it } from 'vitest';
import type { CoreV1Event } from '@kubernetes/client-node';
import { answering } from '#libs/orchestrator/testing/contract.handlers.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { DEPLOYMENT, SERVICE } from '#libs/orchestrator-kubernetes/kinds.js';
import { ProviderSuite } from './support/provider.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

describe.skipIf(noCluster)('Events on a function’s Deployment [kubernetes]', () => {
  const suite = ProviderSuite.on({}, { HPA_MAX_REPLICAS: '1' });

  /** The manager's own, as `kubectl describe deployment` finds them. */
  async function told(functionId: FunctionId): Promise<Record<string, CoreV1Event>> {
    const { core, namespace } = suite.cluster;
    const fieldSelector = `source=service-faas,involvedObject.name=faas-worker-${functionId}`;
    const { items } = await core.listNamespacedEvent({ namespace, fieldSelector });
    const byReason = Object.fromEntries(items.map((event) => [event.reason ?? '', event]));
    expect(Object.keys(byReason), 'one Event for each kind of change').toHaveLength(items.length);
    return byReason;
  }

  const counts = async (functionId: FunctionId) =>
    Object.fromEntries(Object.entries(await told(functionId)).map(([reason, { count }]) => [reason, count]));

  const untilTold = (functionId: FunctionId, wanted: Record<string, number>) =>
    suite.stage.until(
      `told are ${JSON.stringify(wanted)}`,
      () => counts(functionId),
      (seen) => Object.entries(wanted).every(([reason, count]) => seen[reason] === count),
    );

  it('say what was made, restored, rolled out and scaled, each change once', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const { functionId } = workload;
    await stage.settleReady(manager, workload);
    await untilTold(functionId, { Created: 1 });
    const { metadata } = await cluster.get(DEPLOYMENT, `faas-worker-${functionId}`);
    const created = (await told(functionId))['Created']!;
    expect(created).toMatchObject({ type: 'Normal', involvedObject: { uid: metadata?.uid, apiVersion: 'apps/v1' } });

    await cluster.delete(SERVICE, `service-${functionId}`);
    await stage.until(
      'the Service is back',
      async () => {
        await stage.ensure(manager, workload);
        return counts(functionId);
      },
      ({ Restored }) => Restored === 1,
    );
    expect((await told(functionId))['Restored']?.message).toContain(`Service service-${functionId}`);

    const changed = stage.revised(workload, answering('two'));
    await stage.settleReady(manager, changed);
    await untilTold(functionId, { RolledOut: 1 });
    for (const times of [1, 2]) {
      await stage.settle(manager, { ...changed, replicas: 0 }, ({ replicas }) => replicas === 0);
      await untilTold(functionId, { ScaledToZero: times });
      await stage.settleReady(manager, changed);
      await untilTold(functionId, { ScaledFromZero: times });
    }
    for (const _ of [1, 2, 3]) await stage.ensure(manager, changed);
    expect(await counts(functionId)).toEqual({
      Created: 1,
      Restored: 1,
      RolledOut: 1,
      ScaledToZero: 2,
      ScaledFromZero: 2,
    });
  });

  it('say once why pods are refused, however often it is looked at', async () => {
    const { stage, cluster } = suite;
    await cluster.refuse({ plural: 'pods' }, 'no pods on a Monday');
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    await stage.settle(manager, workload, ({ reason }) => reason?.code === 'rejected');
    for (const _ of [1, 2, 3]) await stage.ensure(manager, workload);
    await untilTold(workload.functionId, { Refused: 1 });
    const { Refused } = await told(workload.functionId);
    expect(Refused).toMatchObject({
      type: 'Warning',
      message: expect.stringContaining('no pods on a Monday') as string,
    });
    await cluster.admitAll();
    await stage.settleReady(manager, workload);
  });

  it('say it of a Deployment too that could not be made', async () => {
    const { stage, cluster } = suite;
    await cluster.refuse({ plural: 'deployments' }, 'no deployments on a Monday');
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    await stage.settle(manager, workload, ({ reason }) => reason?.code === 'rejected');
    await stage.until(
      'the refusal is told',
      () => told(workload.functionId),
      ({ Refused }) => Refused?.message?.includes('no deployments on a Monday') === true,
    );
    await cluster.admitAll();
  });

  it('are done without where the cluster refuses them, as before the Role had the right', async () => {
    const { stage, cluster } = suite;
    await cluster.refuse({ plural: 'events' }, 'no events on a Monday');
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const seen = await stage.settleReady(manager, workload);
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
    await stage.settle(manager, { ...workload, replicas: 0 }, ({ replicas }) => replicas === 0);
    await stage.settleReady(manager, workload);
    expect(await counts(workload.functionId)).toEqual({});
    await cluster.admitAll();
  });
});
