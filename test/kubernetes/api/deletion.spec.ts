import { expect, it } from 'vitest';
import { autoscaler, configMap, ECHO } from './support/manifests.js';
import { describeOnClusters, until } from './support/targets.js';
import { Workload } from './support/workloads.js';

describeOnClusters('owners and deletion', (target) => {
  const admin = () => target().admin;
  const uidOf = async (path: string): Promise<string> => (await admin().get(path)).body.metadata.uid;
  const owned = (name: string, owner: { name: string; uid: string; kind?: string; apiVersion?: string }) => ({
    ...configMap(name),
    metadata: {
      name,
      ownerReferences: [{ apiVersion: 'apps/v1', kind: 'Deployment', blockOwnerDeletion: true, ...owner }],
    },
  });
  const gone = (path: string) =>
    until(`${path} is gone`, async () => (await admin().get(path)).code === 404 || undefined);

  it('in the foreground keeps the owner until all that blocks it has gone', async () => {
    const front = new Workload(target(), 'front');
    await front.create(ECHO, { lifecycle: { preStop: { sleep: { seconds: 2 } } } });
    await front.ready(1);
    await admin().post('configmaps', owned('front-owned', { name: 'front', uid: await uidOf(front.path) }));
    const answer = await admin().delete(front.path, { propagationPolicy: 'Foreground' });
    expect(answer).toMatchObject({
      code: 200,
      body: {
        kind: 'Deployment',
        metadata: { finalizers: ['foregroundDeletion'], deletionTimestamp: expect.any(String), generation: 2 },
      },
    });
    const pods = await until('the pod is leaving', async () => {
      const found = await front.pods();
      return found.length === 1 && found[0]!.metadata.deletionTimestamp !== undefined ? found : undefined;
    });
    expect(pods).toHaveLength(1);
    expect((await admin().get(front.path)).code).toBe(200);
    await gone(front.path);
    expect(await front.pods()).toEqual([]);
    expect(await front.sets()).toEqual([]);
    expect((await admin().get('configmaps/front-owned')).code).toBe(404);
  });

  it('in the background removes the owner at once, and then what it owned', async () => {
    const back = new Workload(target(), 'back');
    await back.create(ECHO, {}, { replicas: 0 });
    await admin().post('configmaps', owned('back-owned', { name: 'back', uid: await uidOf(back.path) }));
    expect(await admin().delete(back.path, { propagationPolicy: 'Background' })).toMatchObject({
      code: 200,
      body: { kind: 'Status', status: 'Success', details: { name: 'back', group: 'apps', kind: 'deployments' } },
    });
    expect((await admin().get(back.path)).code).toBe(404);
    await gone('configmaps/back-owned');
  });

  it('as an orphan leaves what it owned', async () => {
    const lone = new Workload(target(), 'lone');
    await lone.create(ECHO, {}, { replicas: 0 });
    await admin().post('configmaps', owned('lone-owned', { name: 'lone', uid: await uidOf(lone.path) }));
    await admin().delete(lone.path, { propagationPolicy: 'Orphan' });
    await gone(lone.path);
    const left = await admin().get('configmaps/lone-owned');
    expect(left).toMatchObject({ code: 200, body: { data: { a: 'b' } } });
    expect(left.body.metadata.ownerReferences ?? []).toEqual([]);
  });

  it('takes what names an owner that is not there, or not that one', async () => {
    const heir = new Workload(target(), 'heir');
    await heir.create(ECHO, {}, { replicas: 0 });
    const uid = '00000000-0000-0000-0000-000000000000';
    await admin().post('configmaps', owned('of-another', { name: 'heir', uid }));
    await admin().post('configmaps', owned('of-nobody', { name: 'nobody', uid }));
    await gone('configmaps/of-another');
    await gone('configmaps/of-nobody');
    await heir.remove();
  });

  it('waits for the finalizers of others', async () => {
    const held = { ...configMap('finalized'), metadata: { name: 'finalized', finalizers: ['example.com/wait'] } };
    await admin().post('configmaps', held);
    await admin().delete('configmaps/finalized');
    expect((await admin().get('configmaps/finalized')).body.metadata.deletionTimestamp).toBeDefined();
    await admin().merge('configmaps/finalized', { metadata: { finalizers: null } });
    expect((await admin().get('configmaps/finalized')).code).toBe(404);
  });

  it('lets an autoscaler keep a Deployment within its bounds, and leaves one at 0 alone', async () => {
    const bound = new Workload(target(), 'bound');
    const replicas = async () => (await admin().get(bound.path)).body.spec.replicas as number;
    await bound.create(ECHO, {}, { replicas: 1, paused: true });
    await admin().post('autoscaling/v2/horizontalpodautoscalers', autoscaler('bound', 2, 3));
    await until('it was raised to the least', async () => (await replicas()) === 2 || undefined, 40_000);
    await admin().merge(bound.path, { spec: { replicas: 9 } });
    await until('it was cut to the most', async () => (await replicas()) === 3 || undefined, 40_000);
    await admin().merge(bound.path, { spec: { replicas: 0 } });
    const condition = await until(
      'scaling is disabled',
      async () => {
        const { status } = (await admin().get('autoscaling/v2/horizontalpodautoscalers/hpa-bound')).body;
        const conditions = (status.conditions ?? []) as { type: string; status: string; reason: string }[];
        return conditions.find(({ type, status }) => type === 'ScalingActive' && status === 'False');
      },
      40_000,
    );
    expect(condition.reason).toBe('ScalingDisabled');
    expect(await replicas()).toBe(0);
    await bound.remove();
  });
});
