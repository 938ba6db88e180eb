import { describe, expect, it } from 'vitest';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { answering } from '#libs/orchestrator/testing/contract.handlers.js';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import { ProviderSuite } from './support/provider.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

const KINDS = ['configmaps', 'secrets', 'services', 'deployments', 'horizontalpodautoscalers', 'pods'];

describe.skipIf(noCluster)('a cluster that refuses [kubernetes]', () => {
  const suite = ProviderSuite.on();
  const refusing = (resource: string, operation: 'CREATE' | 'UPDATE' | 'DELETE', message: string) =>
    suite.cluster.refuse({ plural: resource, operation }, message);
  const rejected = (message: string): WorkloadFault =>
    expect.objectContaining({
      code: 'rejected',
      terminal: false,
      message: expect.stringContaining(message) as string,
    }) as WorkloadFault;

  it.each(KINDS)('new %s by an admission policy is quoted, and heals when the policy relents', async (resource) => {
    const { stage, cluster } = suite;
    await refusing(resource, 'CREATE', `no ${resource} on a Monday`);
    const manager = await stage.manager();
    const secrets = { variables: { A: 'a' }, files: {}, digest: 'one' };
    const workload = stage.workload(answering('one'), { secrets });
    const seen = await stage.settle(manager, workload, ({ reason }) => reason?.code === 'rejected');
    expect(seen.reason).toEqual(rejected(`denied request: no ${resource} on a Monday`));
    expect(seen.ready).toBe(0);
    await cluster.admitAll();
    const healed = await stage.settleReady(manager, workload);
    expect((await stage.call(healed.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
  });

  it('another revision leaves the former one serving', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    await stage.settleReady(manager, workload);
    await refusing('deployments', 'UPDATE', 'frozen');
    const changed = stage.revised(workload, answering('two'));
    const seen = await stage.settle(manager, changed, ({ reason }) => reason?.code === 'rejected');
    expect(seen.reason).toEqual(rejected('frozen'));
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
    await cluster.admitAll();
    const healed = await stage.settleReady(manager, changed);
    expect((await stage.call(healed.endpoints[0], 'x')).body).toEqual({ result: 'two:x' });
  });

  it('to let a Deployment go keeps the removal waiting, and nothing is left once it relents', async () => {
    const { stage, cluster } = suite;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    await stage.settleReady(manager, workload);
    await refusing('deployments', 'DELETE', 'kept for the audit');
    await expect(stage.remove(manager, workload.functionId)).rejects.toThrow(/kept for the audit/);
    await expect(stage.remove(manager, workload.functionId)).rejects.toBeInstanceOf(OrchestratorUnavailable);
    expect(await stage.list(manager)).toEqual([workload.functionId]);
    await cluster.admitAll();
    await stage.remove(manager, workload.functionId);
    expect(await cluster.leftovers()).toEqual([]);
  });

  it('more pods than its quota has is quoted, and heals when the quota is raised', async () => {
    const { stage, cluster } = suite;
    const { core, namespace } = cluster;
    const manager = await stage.manager();
    const running = stage.workload(answering('one'));
    await stage.settleReady(manager, running);
    const body = { metadata: { name: 'tight' }, spec: { hard: { pods: '1' } } };
    await core.createNamespacedResourceQuota({ namespace, body });
    const workload = stage.workload(answering('two'));
    const seen = await stage.settle(manager, workload, ({ reason }) => reason?.code === 'rejected');
    expect(seen.reason).toEqual(rejected('exceeded quota: tight, requested: pods=1, used: pods=1, limited: pods=1'));
    await core.deleteNamespacedResourceQuota({ namespace, name: 'tight' });
    await stage.settleReady(manager, workload);
    const kept = await stage.ensure(manager, running);
    expect((await stage.call(kept.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
  });

  it('pods without their account is quoted, and heals when the account is there', async () => {
    const { stage, cluster } = suite;
    const { core, namespace } = cluster;
    await core.deleteNamespacedServiceAccount({ namespace, name: 'faas-worker' });
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const seen = await stage.settle(manager, workload, ({ reason }) => reason?.code === 'rejected');
    expect(seen.reason).toEqual(rejected('serviceaccount "faas-worker" not found'));
    await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'faas-worker' } } });
    await stage.settleReady(manager, workload);
  });
});
