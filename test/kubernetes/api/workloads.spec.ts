import { expect, it } from 'vitest';
import { ECHO, service } from './support/manifests.js';
import { describeOnClusters, until } from './support/targets.js';
import { type PodView, Workload } from './support/workloads.js';

interface EndpointView {
  readonly addresses: readonly string[];
  readonly conditions: { readonly ready: boolean; readonly serving: boolean; readonly terminating: boolean };
  readonly targetRef: { readonly name: string };
}

describeOnClusters('workloads', (target) => {
  const admin = () => target().admin;
  const slices = async (name: string) =>
    (await admin().get(`discovery.k8s.io/v1/endpointslices?labelSelector=kubernetes.io/service-name%3Dservice-${name}`))
      .body.items;
  const endpoints = async (name: string): Promise<EndpointView[]> =>
    (await slices(name)).flatMap(({ endpoints }: { endpoints: EndpointView[] | null }) => endpoints ?? []);
  const names = (pods: readonly PodView[]) => pods.map(({ metadata }) => metadata.name).toSorted();

  it('brings a Deployment up to pods that answer, and tells so everywhere', async () => {
    const web = new Workload(target(), 'web');
    await admin().post('services', service('web'));
    await web.create(ECHO);
    const [pod] = await web.ready(1);
    expect(pod).toMatchObject({
      metadata: {
        name: expect.stringMatching(/^web-[a-z0-9]+-[a-z0-9]{5}$/),
        labels: { app: 'faas-worker', func: 'web', 'pod-template-hash': expect.any(String) },
        ownerReferences: [{ kind: 'ReplicaSet', controller: true, blockOwnerDeletion: true }],
      },
      spec: {
        nodeName: expect.any(String),
        serviceAccountName: 'default',
        volumes: [{ name: 'code' }, { name: 'tmp' }],
      },
      status: {
        phase: 'Running',
        podIP: expect.stringMatching(/^\d+\.\d+\.\d+\.\d+$/),
        qosClass: 'Burstable',
        containerStatuses: [
          {
            name: 'worker',
            ready: true,
            started: true,
            restartCount: 0,
            containerID: expect.stringMatching(/^containerd:\/\/[0-9a-f]{64}$/),
            state: { running: { startedAt: expect.any(String) } },
            lastState: {},
          },
        ],
      },
    });
    const conditions = Object.fromEntries(pod!.status.conditions!.map(({ type, status }) => [type, status]));
    expect(conditions).toMatchObject({
      Ready: 'True',
      ContainersReady: 'True',
      Initialized: 'True',
      PodScheduled: 'True',
    });
    expect(await web.call(pod!, 'hi')).toEqual({ result: 'hi' });
    expect(await web.status()).toMatchObject({
      replicas: 1,
      updatedReplicas: 1,
      readyReplicas: 1,
      availableReplicas: 1,
    });
    expect(await web.condition('Progressing', 'True')).toMatchObject({
      reason: 'NewReplicaSetAvailable',
      message: expect.stringMatching(/^ReplicaSet "web-[a-z0-9]+" has successfully progressed\.$/),
    });
    expect(await web.condition('Available', 'True')).toMatchObject({ reason: 'MinimumReplicasAvailable' });
    const slice = await until('the slice has the ready pod', async () =>
      (await slices('web')).find(
        (one: { endpoints?: EndpointView[] }) => one.endpoints?.[0]?.conditions.ready === true,
      ),
    );
    expect(slice).toMatchObject({
      addressType: 'IPv4',
      metadata: { labels: { 'kubernetes.io/service-name': 'service-web' }, ownerReferences: [{ kind: 'Service' }] },
      endpoints: [
        {
          addresses: [pod!.status.podIP],
          conditions: { ready: true, serving: true, terminating: false },
          targetRef: { kind: 'Pod', name: pod!.metadata.name, uid: pod!.metadata.uid },
        },
      ],
      ports: [{ name: 'http', port: 8000, protocol: 'TCP' }],
    });
    expect((await admin().get('apps/v1/deployments/web/scale')).body).toMatchObject({
      kind: 'Scale',
      apiVersion: 'autoscaling/v1',
      spec: { replicas: 1 },
      status: { replicas: 1, selector: 'app=faas-worker,func=web' },
    });
  });

  it('rolls to a new template without being without, and goes back to the former set', async () => {
    const roll = new Workload(target(), 'roll');
    const maxUnavailable0 = { strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } };
    const env = (value: string) => ({ env: [{ name: 'VERSION', value }] });
    const VERSION = 'import os\n\n\ndef handle(payload: str) -> str:\n    return os.environ["VERSION"]\n';
    await roll.create(VERSION, env('1'), { replicas: 2, ...maxUnavailable0 });
    const before = await roll.ready(2);
    const [first] = await roll.sets();
    const fewest: number[] = [];
    await roll.apply(env('2'), { replicas: 2, ...maxUnavailable0 });
    const after = await until(
      'the rollout is done',
      async () => {
        const status = await roll.status();
        fewest.push(Number(status['availableReplicas'] ?? 0));
        const pods = await roll.pods();
        const isDone = status['updatedReplicas'] === 2 && pods.length === 2 && status['availableReplicas'] === 2;
        return isDone && names(pods).every((name) => !names(before).includes(name)) ? pods : undefined;
      },
      60_000,
    );
    expect(Math.min(...fewest)).toBeGreaterThanOrEqual(2);
    expect(await roll.call(after[0]!, '')).toEqual({ result: '2' });
    expect((await roll.sets()).map(({ spec }) => String(spec.replicas)).toSorted()).toEqual(['0', '2']);
    await roll.apply(env('1'), { replicas: 2, ...maxUnavailable0 });
    await until('the former set is back', async () =>
      (await roll.sets()).find(({ metadata, spec }) => metadata.name === first!.metadata.name && spec.replicas === 2),
    );
    await roll.ready(2);
    expect(await roll.sets()).toHaveLength(2);
    await roll.remove();
  });

  it('marks a leaving pod in its slice until it has gone', async () => {
    const leave = new Workload(target(), 'leave');
    await admin().post('services', service('leave'));
    const lifecycle = { preStop: { sleep: { seconds: 2 } } };
    await leave.create(ECHO, { lifecycle }, { replicas: 2 });
    await leave.ready(2);
    await until(
      'both are ready endpoints',
      async () => (await endpoints('leave')).filter(({ conditions }) => conditions.ready).length === 2 || undefined,
    );
    await admin().merge('apps/v1/deployments/leave', { spec: { replicas: 1 } });
    const leaving = await until('one is terminating', async () =>
      (await endpoints('leave')).find(({ conditions }) => conditions.terminating),
    );
    expect(leaving.conditions).toEqual({ ready: false, serving: true, terminating: true });
    const pod = (await leave.pods()).find(({ metadata }) => metadata.name === leaving.targetRef.name)!;
    expect(pod.metadata.deletionTimestamp).toBeDefined();
    expect(await leave.call(pod, 'still')).toEqual({ result: 'still' });
    await until('it has gone', async () => (await endpoints('leave')).length === 1 || undefined);
    await leave.ready(1);
    await leave.remove();
  });

  it('evicts a pod as draining its node does', async () => {
    const drain = new Workload(target(), 'drain');
    await drain.create(ECHO, { lifecycle: { preStop: { sleep: { seconds: 2 } } } });
    const [pod] = await drain.ready(1);
    const { name } = pod!.metadata;
    const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: admin().namespace } };
    expect(await admin().post(`pods/${name}/eviction`, eviction)).toMatchObject({
      code: 201,
      body: { status: 'Success' },
    });
    const leaving = (await drain.pods()).find(({ metadata }) => metadata.name === name);
    expect(leaving?.metadata.deletionTimestamp).toBeDefined();
    expect(leaving?.status.conditions).toContainEqual(
      expect.objectContaining({ type: 'DisruptionTarget', status: 'True', reason: 'EvictionByEvictionAPI' }),
    );
    expect(await drain.call(leaving!, 'still')).toEqual({ result: 'still' });
    await until('another one is there alone', async () => {
      const pods = await drain.pods();
      return (pods.length === 1 && pods[0]!.metadata.name !== name) || undefined;
    });
    await drain.remove();
  });

  it('replaces a pod that is deleted, and one whose labels are taken away', async () => {
    const again = new Workload(target(), 'again');
    await again.create(ECHO);
    const [first] = await again.ready(1);
    const deleted = await admin().delete(`pods/${first!.metadata.name}`);
    expect(deleted.body).toMatchObject({
      kind: 'Pod',
      metadata: { deletionGracePeriodSeconds: 5, deletionTimestamp: expect.any(String) },
    });
    const [second] = await until('another pod is alone', async () => {
      const pods = await again.pods();
      return pods.length === 1 && pods[0]!.metadata.name !== first!.metadata.name ? pods : undefined;
    });
    await again.ready(1);
    await admin().merge(`pods/${second!.metadata.name}`, { metadata: { labels: { func: 'freed' } } });
    const [third] = await again.ready(1);
    expect(third!.metadata.name).not.toBe(second!.metadata.name);
    const freed = (await admin().get(`pods/${second!.metadata.name}`)).body;
    expect(freed.metadata.ownerReferences ?? []).toEqual([]);
    await admin().delete(`pods/${second!.metadata.name}?gracePeriodSeconds=0`);
    await until(
      'the freed pod is gone',
      async () => (await admin().get(`pods/${second!.metadata.name}`)).code === 404 || undefined,
    );
    await again.remove();
  });

  it('follows a log until it ends', async () => {
    const talk = new Workload(target(), 'talk');
    await talk.create(
      'def handle(payload: str) -> str:\n    print(f"said {payload}", flush=True)\n    return payload\n',
    );
    const [pod] = await talk.ready(1);
    await talk.call(pod!, 'one');
    await until(
      'the first line is there',
      async () => String((await admin().get(`pods/${pod!.metadata.name}/log`)).body).includes('said one') || undefined,
    );
    const following = admin().get(`pods/${pod!.metadata.name}/log?follow=true&tailLines=2`);
    await talk.call(pod!, 'two');
    await talk.remove();
    const lines = String((await following).body)
      .trim()
      .split('\n');
    expect(lines.filter((line) => line.startsWith('said'))).toEqual(['said one', 'said two']);
  });

  it('answers 503 through the proxy when nothing listens, and 404 when there is no pod', async () => {
    const [pod] = await new Workload(target(), 'web').ready(1);
    expect(await admin().get(`pods/${pod!.metadata.name}:8001/proxy/`)).toMatchObject({
      code: 503,
      body: {
        reason: 'ServiceUnavailable',
        message: expect.stringMatching(
          /^error trying to reach service: dial tcp .*:8001: connect: connection refused$/,
        ),
      },
    });
    expect((await admin().get('pods/none:8000/proxy/')).code).toBe(404);
  });
});
