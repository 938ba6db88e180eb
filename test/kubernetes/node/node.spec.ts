import type { V1ContainerStatus, V1Pod } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { whyNoControlPlane } from '../control-plane/shared.js';
import { SmallCluster } from '../support/small-cluster.js';

const ECHO = 'def handle(payload: str) -> str:\n    return payload\n';
const WAIT = { timeout: 30_000, interval: 50 };

describe.skipIf(whyNoControlPlane() !== undefined)('a node whose containers are processes', () => {
  let cluster: SmallCluster;
  beforeAll(async () => {
    cluster = await SmallCluster.open();
  });
  afterAll(() => cluster?.close());

  const read = (name: string): Promise<V1Pod> => cluster.core.readNamespacedPod({ name, namespace: cluster.namespace });

  async function addCode(name: string, source: string): Promise<void> {
    const body = { metadata: { name }, data: { 'handler.py': source } };
    await cluster.core.createNamespacedConfigMap({ namespace: cluster.namespace, body });
  }

  /** A pod as the provider's are, with the code of the ConfigMap of its name. */
  async function addPod(name: string, container: object = {}): Promise<void> {
    const probe = { httpGet: { path: '/health', port: 'http' }, periodSeconds: 1 };
    await cluster.core.createNamespacedPod({
      namespace: cluster.namespace,
      body: {
        metadata: { name },
        spec: {
          serviceAccountName: 'faas-worker',
          securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
          terminationGracePeriodSeconds: 5,
          volumes: [
            { name: 'code', configMap: { name } },
            { name: 'tmp', emptyDir: {} },
          ],
          containers: [
            {
              name: 'worker',
              image: 'faas-worker:local',
              env: [
                { name: 'HANDLER_FUNCTION', value: 'function.handler.handle' },
                { name: 'HOME', value: '/tmp' },
              ],
              ports: [{ name: 'http', containerPort: 8000 }],
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
              startupProbe: { ...probe, failureThreshold: 30 },
              readinessProbe: probe,
              terminationMessagePolicy: 'FallbackToLogsOnError',
              volumeMounts: [
                { name: 'code', mountPath: '/app/function' },
                { name: 'tmp', mountPath: '/tmp' },
              ],
              ...container,
            },
          ],
        },
      },
    });
  }

  async function started(name: string, source: string, container: object = {}): Promise<V1Pod> {
    await addCode(name, source);
    await addPod(name, container);
    await containerOf(name, ({ ready }) => ready);
    return read(name);
  }

  /** The pod's container, once it is as wanted. */
  const containerOf = (name: string, isWanted: (status: V1ContainerStatus) => boolean): Promise<V1ContainerStatus> =>
    vi.waitFor(async () => {
      const [status] = (await read(name)).status?.containerStatuses ?? [];
      if (status === undefined || !isWanted(status)) throw new Error(`It is ${JSON.stringify(status)}.`);
      return status;
    }, WAIT);

  const remove = async (name: string): Promise<void> => {
    await cluster.core.deleteNamespacedPod({ namespace: cluster.namespace, name });
    await vi.waitFor(() => expect(read(name)).rejects.toMatchObject({ code: 404 }), WAIT);
  };

  it('runs a pod, tells its log through the API server, and starts what was killed again at the same address', async () => {
    const { node, namespace, core } = cluster;
    const before = await started('web', `print("loaded", flush=True)\n${ECHO}`);
    const url = `http://${before.status?.podIP}:8000/health`;
    expect((await fetch(url)).status).toBe(200);
    expect(await core.readNamespacedPodLog({ namespace, name: 'web', tailLines: 100 })).toContain('loaded\n');

    expect(await node.kill('web')).toBe(1);
    const after = await containerOf('web', ({ ready, restartCount }) => ready && restartCount === 1);
    const [former] = before.status?.containerStatuses ?? [];
    expect(after.lastState?.terminated).toMatchObject({
      exitCode: 137,
      reason: 'Error',
      containerID: former?.containerID,
    });
    expect(after.containerID).not.toBe(former?.containerID);
    expect((await read('web')).status?.podIP).toBe(before.status?.podIP);
    expect(await core.readNamespacedPodLog({ namespace, name: 'web', previous: true })).toContain('loaded\n');
    await remove('web');
    await expect(fetch(url)).rejects.toThrow();
  });

  it('starts a container that ends again and again, ever later, and keeps its last words', async () => {
    await addCode('crash', 'raise KeyError("region")\n');
    await addPod('crash');
    const waiting = await containerOf('crash', ({ state }) => state?.waiting?.reason === 'CrashLoopBackOff');
    expect(waiting.state?.waiting?.message).toMatch(/^back-off [\d.]+s restarting failed container=worker pod=crash_/);
    expect(waiting.lastState?.terminated).toMatchObject({ reason: 'Error' });
    expect(waiting.lastState?.terminated?.message).toContain('KeyError');
    expect(waiting.restartCount).toBeGreaterThan(0);
    await remove('crash');
  });

  it('tells that an image can’t be had, and waits for a ConfigMap that isn’t there yet', async () => {
    await addPod('image', { image: 'registry.invalid/nope:1' });
    const pulling = await containerOf('image', ({ state }) => /Pull/.test(state?.waiting?.reason ?? ''));
    expect(pulling.state?.waiting?.message).toContain('registry.invalid/nope:1');
    await remove('image');
    await addPod('late');
    await containerOf('late', ({ state }) => /configmap "late" not found/.test(state?.waiting?.message ?? ''));
    await addCode('late', ECHO);
    await containerOf('late', ({ ready }) => ready);
    await remove('late');
  });

  it('ends a container that takes more memory than its limit, and one that isn’t live', async () => {
    const resources = { limits: { memory: '128Mi' } };
    await addCode('memory', `HOARD = b"x" * 200_000_000\n${ECHO}import time\ntime.sleep(30)\n`);
    await addPod('memory', { resources });
    const ended = await containerOf('memory', ({ lastState }) => lastState?.terminated !== undefined);
    expect(ended.lastState?.terminated).toMatchObject({ reason: 'OOMKilled', exitCode: 137 });
    await remove('memory');
    await addCode('deaf', ECHO);
    await addPod('deaf', {
      livenessProbe: { httpGet: { path: '/nowhere', port: 'http' }, periodSeconds: 1, failureThreshold: 1 },
    });
    const restarted = await containerOf('deaf', ({ restartCount }) => restartCount > 0);
    expect(restarted.lastState?.terminated?.exitCode).toBe(0);
    await remove('deaf');
  });
});
