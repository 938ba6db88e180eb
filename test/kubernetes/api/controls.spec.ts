import { mkdtempSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, describe } from 'vitest';
import { startProcess } from './start-process.js';
import { autoscaler, ECHO, service } from './support/manifests.js';
import { Caller, configOf, describeOnFake, type Target, until } from './support/targets.js';
import { Workload } from './support/workloads.js';

/** The worker processes of a cluster, by the tag in their command lines. */
function workerProcesses(namespace: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      const path = `/proc/${pid}/cmdline`;
      try {
        return readFileSync(path, 'utf8').includes(`kube_pod=${namespace}/`);
      } catch {
        return false;
      }
    })
    .map(Number);
}

describeOnFake('what a test can do to the small Kubernetes', (target) => {
  const controls = () => target().fake!.controls;

  it('kills a container, which starts again at the same address with another id', async () => {
    const kill = new Workload(target(), 'kill');
    await kill.create(ECHO);
    const [pod] = await kill.ready(1);
    const [before] = pod!.status.containerStatuses!;
    expect(await controls().kill(before!.containerID!)).toBe(1);
    await kill.container('is back', ({ ready, restartCount }) => ready && restartCount === 1);
    const [again] = await kill.pods();
    const [after] = again!.status.containerStatuses!;
    expect(after!.lastState.terminated).toMatchObject({
      exitCode: 137,
      reason: 'Error',
      containerID: before!.containerID,
    });
    expect(after!.containerID).not.toBe(before!.containerID);
    expect(again!.metadata.uid).toBe(pod!.metadata.uid);
    expect(again!.status.podIP).toBe(pod!.status.podIP);
    expect(await controls().kill('no-such-pod')).toBe(0);
    await kill.remove();
  });

  it('ends a container that takes more memory than its limit', async () => {
    const memory = new Workload(target(), 'memory');
    const resources = { requests: { memory: '64Mi' }, limits: { memory: '128Mi' } };
    await memory.create(
      'HOARD = []\n\n\ndef handle(payload: str) -> int:\n    HOARD.append(b"x" * 200_000_000)\n    return 1\n',
      { resources },
    );
    const [pod] = await memory.ready(1);
    void memory.call(pod!, '').catch(() => undefined);
    const ended = await memory.container('ended', ({ lastState }) => lastState.terminated !== undefined);
    expect(ended.lastState.terminated).toMatchObject({ reason: 'OOMKilled', exitCode: 137 });
    await memory.remove();
  });

  it('restarts a container that no longer answers its liveness probe', async () => {
    const deaf = new Workload(target(), 'deaf');
    const livenessProbe = { httpGet: { path: '/nowhere', port: 'http' }, periodSeconds: 1, failureThreshold: 1 };
    await deaf.create(ECHO, { livenessProbe });
    const ended = await deaf.container('was restarted', ({ restartCount }) => restartCount > 0);
    expect(ended.lastState.terminated?.exitCode).toBe(0);
    await deaf.remove();
  });

  it('answers at a Service address in turn, and refuses where no pod is ready', async () => {
    const turn = new Workload(target(), 'turn');
    const made = await target().admin.post('services', service('turn'));
    const url = `http://${made.body.spec.clusterIP}/`;
    await expect(fetch(url)).rejects.toThrow();
    await turn.create(
      'import os\n\n\ndef handle(payload: str) -> str:\n    return os.environ["POD"]\n',
      {
        env: [{ name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
      },
      { replicas: 2 },
    );
    const pods = await turn.ready(2);
    const ask = async (): Promise<string> => {
      const headers = { connection: 'close' };
      const response = await fetch(url, { method: 'POST', body: '{"payload":""}', headers });
      return ((await response.json()) as { result: string }).result;
    };
    const answered = await until('both answer', async () => {
      const seen = new Set([await ask(), await ask()]);
      return seen.size === 2 ? [...seen] : undefined;
    });
    expect(answered.toSorted()).toEqual(pods.map(({ metadata }) => metadata.name).toSorted());
    await turn.remove();
    await expect
      .poll(() =>
        fetch(url).then(
          () => 'answers',
          () => 'refuses',
        ),
      )
      .toBe('refuses');
  });

  it('scales with a load that a test makes up', async () => {
    const load = new Workload(target(), 'load');
    await load.create(ECHO, {}, { replicas: 1, paused: true });
    await target().admin.post('autoscaling/v2/horizontalpodautoscalers', autoscaler('load', 1, 3));
    const replicas = async () => (await target().admin.get(load.path)).body.spec.replicas;
    await controls().desire(target().fake!.namespace, 'hpa-load', 5);
    await expect.poll(replicas).toBe(3);
    await controls().desire(target().fake!.namespace, 'hpa-load', 1);
    await expect.poll(replicas).toBe(1);
    await controls().desire(target().fake!.namespace, 'hpa-load', 3);
    await expect.poll(replicas).toBe(3);
    const path = 'autoscaling/v2/horizontalpodautoscalers/hpa-load';
    await controls().desire(target().fake!.namespace, 'hpa-load');
    await target().admin.merge(path, { spec: { behavior: { scaleDown: { stabilizationWindowSeconds: 0 } } } });
    await expect.poll(replicas).toBe(1);
    await load.remove();
  });

  it('throttles the manager only, with the time to wait', async () => {
    const manager = new Caller(configOf(target().fake!.kubeconfig('manager')), target().fake!.namespace);
    await controls().throttle(1, 7);
    expect((await target().admin.get('configmaps')).code).toBe(200);
    const refused = await manager.get('configmaps');
    expect(refused.code).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('7');
    expect((await manager.get('configmaps')).code).toBe(200);
  });

  it('is gone and comes back at the same address, and pods go on meanwhile', async () => {
    const stay = new Workload(target(), 'stay');
    await stay.create(ECHO);
    const [pod] = await stay.ready(1);
    await controls().down();
    await expect(target().admin.get('configmaps')).rejects.toThrow();
    const answer = await fetch(`http://${pod!.status.podIP}:8000/health`);
    expect(answer.status).toBe(200);
    await controls().up();
    expect((await stay.ready(1))[0]!.metadata.uid).toBe(pod!.metadata.uid);
    await stay.remove();
  });

  it('answers late', async () => {
    await controls().latency(200);
    const began = performance.now();
    await target().admin.get('configmaps');
    expect(performance.now() - began).toBeGreaterThan(190);
    await controls().latency(0);
  });
});

describe('the small Kubernetes as a process of its own', () => {
  it('serves the same, and leaves nothing when it is told to end', async () => {
    const namespace = `own-${process.pid}`;
    const tmpDir = mkdtempSync(join(tmpdir(), 'own-'));
    const api = await startProcess({ namespace, tmpDir });
    const admin = new Caller(configOf(api.kubeconfig('admin')), namespace);
    const target: Target = { name: 'own', fake: api, admin, image: 'faas-worker:local' };
    const web = new Workload(target, 'web');
    await web.create(ECHO);
    const [pod] = await web.ready(1);
    expect(await web.call(pod!, 'hi')).toEqual({ result: 'hi' });
    expect(await api.controls.kill(pod!.metadata.name)).toBe(1);
    await web.container('is back', ({ ready, restartCount }) => ready && restartCount === 1);
    expect(workerProcesses(namespace).length).toBeGreaterThan(0);
    expect(readdirSync(tmpDir)).not.toEqual([]);
    process.kill(api.pid, 'SIGTERM');
    await api.stop();
    expect(workerProcesses(namespace)).toEqual([]);
    expect(readdirSync(tmpDir)).toEqual([]);
    rmdirSync(tmpDir);
  });
});
