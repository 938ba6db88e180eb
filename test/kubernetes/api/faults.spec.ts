import { expect, it } from 'vitest';
import { ECHO } from './support/manifests.js';
import { describeOnClusters, until } from './support/targets.js';
import { Workload } from './support/workloads.js';

describeOnClusters('workloads that do not run', (target) => {
  const admin = () => target().admin;

  it('starts a container again and again, and keeps its last words', async () => {
    const crash = new Workload(target(), 'crash');
    await crash.create('raise KeyError("region")\n');
    const ended = await crash.container('has ended once', ({ lastState }) => lastState.terminated !== undefined);
    expect(ended.lastState.terminated).toMatchObject({
      exitCode: 65,
      reason: 'Error',
      containerID: expect.stringMatching(/^containerd:/),
    });
    expect(ended.lastState.terminated?.message).toContain('"faas": "handler_not_loadable"');
    expect(ended.restartCount).toBeGreaterThan(0);
    expect(ended.ready).toBe(false);
    const backing = await crash.container('backs off', ({ state }) => state.waiting?.reason === 'CrashLoopBackOff');
    expect(backing.state.waiting?.message).toMatch(/^back-off [\d.]+m?s restarting failed container=worker pod=crash-/);
    const [pod] = await crash.pods();
    const log = await admin().get(`pods/${pod!.metadata.name}/log?previous=true&tailLines=5&timestamps=true`);
    expect(log.body).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z /);
    expect(log.body).toContain('KeyError');
    expect(pod!.status.phase).toBe('Running');
    await crash.remove();
  });

  it('tells that an image cannot be had', async () => {
    const pull = new Workload(target(), 'pull');
    await pull.create(ECHO, { image: 'registry.invalid/nope:1' });
    const waiting = await pull.container('waits', ({ state }) => /Pull/.test(state.waiting?.reason ?? ''));
    expect(['ErrImagePull', 'ImagePullBackOff']).toContain(waiting.state.waiting?.reason);
    expect(waiting.state.waiting?.message).toContain('registry.invalid/nope:1');
    const [pod] = await pull.pods();
    expect(pod!.status.phase).toBe('Pending');
    const log = await admin().get(`pods/${pod!.metadata.name}/log`);
    expect(log.code).toBe(400);
    expect(log.body.message).toMatch(/^container "worker" in pod "pull-.*" is waiting to start: .*pull/);
    expect((await admin().get(`pods/${pod!.metadata.name}/log?previous=true`)).body.message).toMatch(
      /^previous terminated container "worker" in pod ".*" not found$/,
    );
    await pull.remove();
  });

  it('waits for a ConfigMap that is not there yet', async () => {
    const late = new Workload(target(), 'late');
    await late.create(undefined);
    await late.container('waits', ({ state }) => state.waiting?.reason === 'ContainerCreating');
    await admin().post('configmaps', {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'code-late' },
      data: { 'handler.py': ECHO },
    });
    await late.ready(1);
    await late.remove();
  });

  it('tells why the quota lets no pod in', async () => {
    const quota = {
      apiVersion: 'v1',
      kind: 'ResourceQuota',
      metadata: { name: 'few' },
      spec: { hard: { 'limits.cpu': '600m' } },
    };
    const over = new Workload(target(), 'over');
    await over.create(ECHO, { resources: { limits: { cpu: '601m', memory: '256Mi' } } }, { replicas: 0 });
    await admin().post('resourcequotas', quota);
    await until('the quota is in force', async () =>
      (await admin().get('resourcequotas/few')).body.status?.hard === undefined ? undefined : true,
    );
    await admin().merge(over.path, { spec: { replicas: 1 } });
    const failure = await over.condition('ReplicaFailure', 'True');
    expect(failure.reason).toBe('FailedCreate');
    expect(failure.message).toMatch(
      /^pods "over-.*" is forbidden: exceeded quota: few, requested: limits.cpu=601m, used: limits.cpu=\d+m?, limited: limits.cpu=600m$/,
    );
    expect(await over.pods()).toEqual([]);
    await admin().delete('resourcequotas/few');
    await over.ready(1);
    expect((await over.status()).conditions?.some(({ type }) => type === 'ReplicaFailure')).toBe(false);
    await over.remove();
  });

  it('lets only restricted pods into a namespace that enforces that profile', async () => {
    const namespace = `/api/v1/namespaces/${admin().namespace}`;
    const enforce = (profile: string | null) =>
      admin().merge(namespace, { metadata: { labels: { 'pod-security.kubernetes.io/enforce': profile } } });
    await enforce('restricted');
    const safe = new Workload(target(), 'safe');
    await safe.create(ECHO);
    await safe.ready(1);
    await safe.remove();
    const open = new Workload(target(), 'open');
    await open.create(ECHO, { securityContext: {} }, {}, { securityContext: {} });
    const failure = await open.condition('ReplicaFailure', 'True');
    expect(failure.message).toMatch(
      /^pods "open-.*" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false \(container "worker" must set securityContext.allowPrivilegeEscalation=false\), unrestricted capabilities \(container "worker" must set securityContext.capabilities.drop=\["ALL"\]\), runAsNonRoot != true \(pod or container "worker" must set securityContext.runAsNonRoot=true\), seccompProfile \(pod or container "worker" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"\)$/,
    );
    await enforce(null);
    await open.remove();
  });

  it('starts no pod of a runtime class that is not there', async () => {
    const runtime = new Workload(target(), 'runtime');
    await runtime.create(ECHO, {}, {}, { runtimeClassName: 'not-there' });
    const failure = await runtime.condition('ReplicaFailure', 'True');
    expect(failure.message).toMatch(
      /^pods "runtime-.*" is forbidden: pod rejected: RuntimeClass "not-there" not found$/,
    );
    await runtime.remove();
  });

  it('leaves a pod pending that fits on no node', async () => {
    const large = new Workload(target(), 'large');
    await large.create(ECHO, { resources: { requests: { cpu: '1000' } } });
    const [pod] = await until('it was looked at', async () => {
      const pods = await large.pods();
      return pods[0]?.status.conditions === undefined ? undefined : pods;
    });
    expect(pod!.status).toMatchObject({
      phase: 'Pending',
      conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable' }],
    });
    expect(pod!.status.conditions![0]!.message).toMatch(/^0\/1 nodes are available: 1 Insufficient cpu\./);
    expect(pod!.status.podIP).toBeUndefined();
    await large.remove();
  });
});
