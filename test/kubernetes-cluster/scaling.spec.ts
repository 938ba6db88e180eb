import type { V1Deployment, V1Pod, V2MetricTarget } from '@kubernetes/client-node';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { AUTOSCALER, DEPLOYMENT } from '#libs/orchestrator-kubernetes/kinds.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { TELLTALE } from '../kubernetes/support/handlers.js';
import { type Namespace, namespaceEngine } from './support/room.js';
import { Traffic } from '../kubernetes/support/traffic.js';

const SLOW = { timeout: 150_000, interval: 500 };

describe('scaling and replacing pods [kubernetes]', () => {
  let room: Namespace;
  /** Of one test, and the only one: others would make its pods anew. */
  let manager: TestManager;
  afterEach(() => manager?.stop());
  const stage = Stage.on(
    namespaceEngine((opened) => (room = opened)),
    {
      HPA_MAX_REPLICAS: '3',
      HPA_CPU_PERCENT: '60',
      HPA_MEMORY_PERCENT: '1000',
      HPA_UP_WINDOW_SECONDS: '0',
      HPA_UP_PERIOD_SECONDS: '5',
      HPA_DOWN_WINDOW_SECONDS: '5',
      HPA_DOWN_PODS: '3',
      HPA_DOWN_PERIOD_SECONDS: '5',
      WORKER_CPU_MILLIS: '300',
      KUBERNETES_REQUEST_CPU_MILLIS: '50',
    },
  );

  const ready = async (id: string): Promise<string[]> => {
    const pods = (await room.cluster.of(id)) as V1Pod[];
    return pods
      .filter(({ metadata }) => metadata?.deletionTimestamp === undefined)
      .filter(({ status }) => status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'))
      .map(({ metadata }) => metadata?.name ?? '');
  };
  const wanted = async (id: string) =>
    ((await room.cluster.get(DEPLOYMENT, `faas-worker-${id}`)) as V1Deployment).spec?.replicas;

  it(
    'adds replicas under load, calls all of them, and takes them away after it, without a failed call',
    { timeout: 400_000 },
    async () => {
      ({ manager } = stage);
      const { id } = await manager.add(TELLTALE);
      // So few that one pod is enough for the autoscaler, even on a machine where each call costs more than elsewhere.
      const light = new Traffic(1, async () => {
        await delay(1_000);
        return manager.call(id, 'sleep 0.2');
      });
      const heavy = new Traffic(3, () => manager.call(id, 'burn 0.1'));
      await vi.waitFor(async () => expect((await ready(id)).length).toBeGreaterThan(1), SLOW);
      const before = heavy.answers.length;
      await vi.waitFor(() => {
        const answered = new Set(heavy.answers.slice(before).map(({ text }) => text));
        expect(answered.size).toBeGreaterThan(1);
      }, SLOW);
      expect(await heavy.stop()).toEqual([]);
      await vi.waitFor(async () => expect(await wanted(id)).toBe(1), SLOW);
      await vi.waitFor(async () => expect(await room.workers()).toHaveLength(1), SLOW);
      await light.more(5);
      expect(await light.stop()).toEqual([]);
      expect((await manager.remove(id)).status).toBe(204);
    },
  );

  describe('without an autoscaler of its own mind', () => {
    /** The count of replicas is set by hand, and nobody takes it back: the autoscaler waits for an hour. */
    const STILL = {
      HPA_MAX_REPLICAS: '3',
      HPA_CPU_PERCENT: '10000',
      HPA_DOWN_WINDOW_SECONDS: '3600',
      // So that callers who were on their way to a manager that leaves still find it.
      SHUTDOWN_DELAY_MS: '1000',
    };

    it('rolls all pods to a changed template under load without a failed call', async () => {
      await stage.manager.stop();
      manager = await stage.start(STILL);
      const { id } = await manager.add(TELLTALE);
      const before = await ready(id);
      const traffic = new Traffic(4, (caller) => manager.call(id, caller === 0 ? 'sleep 1' : 'sleep 0.02'));
      await traffic.more(20);
      const former = manager;
      manager = await stage.start({ ...STILL, KUBERNETES_REQUEST_CPU_MILLIS: '60' });
      await former.stop();
      await vi.waitFor(async () => {
        const pods = (await room.cluster.of(id)) as V1Pod[];
        expect(pods.map(({ spec }) => spec?.containers[0]?.resources?.requests?.['cpu'])).toEqual(['60m']);
        expect(await ready(id)).toHaveLength(1);
      }, SLOW);
      await traffic.more(20);
      expect(await traffic.stop()).toEqual([]);
      expect(await ready(id)).not.toEqual(before);
      expect((await manager.remove(id)).status).toBe(204);
    });

    it('loses no call when pods are evicted one after the other, as a drained node does it', async () => {
      await stage.manager.stop();
      manager = await stage.start(STILL);
      const { id } = await manager.add(TELLTALE);
      await room.cluster.merge(DEPLOYMENT, `faas-worker-${id}`, { spec: { replicas: 2 } });
      await vi.waitFor(async () => expect(await ready(id)).toHaveLength(2), SLOW);
      const traffic = new Traffic(4, (caller) => manager.call(id, caller === 0 ? 'sleep 1' : 'sleep 0.02'));
      await traffic.more(20);
      for (const name of await ready(id)) {
        await room.cluster.evict(name);
        await vi.waitFor(async () => {
          const now = await ready(id);
          expect(now).not.toContain(name);
          expect(now).toHaveLength(2);
        }, SLOW);
        await traffic.more(20);
      }
      expect(await traffic.stop()).toEqual([]);
      // Set by hand to what the autoscaler may choose: it is not ours to take back.
      expect(await wanted(id)).toBe(2);
      expect((await manager.remove(id)).status).toBe(204);
    });

    it('keeps calls waiting while the only pod is evicted and another one starts', async () => {
      await stage.manager.stop();
      manager = await stage.start(STILL);
      const { id } = await manager.add(TELLTALE);
      const traffic = new Traffic(3, () => manager.call(id, 'sleep 0.05'));
      await traffic.more(10);
      const [name = ''] = await ready(id);
      await room.cluster.evict(name);
      await vi.waitFor(async () => expect(traffic.answers.at(-1)?.text).not.toContain(name), SLOW);
      await traffic.more(10);
      expect(await traffic.stop()).toEqual([]);
      expect((await manager.remove(id)).status).toBe(204);
    });
  });

  it('makes the autoscaler that is documented, where nothing else is configured', async () => {
    await stage.manager.stop();
    manager = await stage.start({ HPA_MAX_REPLICAS: '' });
    const { id } = await manager.add(TELLTALE);
    const resource = (name: string, target: V2MetricTarget) => ({ type: 'Resource', resource: { name, target } });
    const byPods = (stabilizationWindowSeconds: number, value: number, periodSeconds: number) => ({
      stabilizationWindowSeconds,
      policies: [{ type: 'Pods', value, periodSeconds }],
    });
    expect(await room.cluster.get(AUTOSCALER, `hpa-${id}`)).toMatchObject({
      spec: {
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: `faas-worker-${id}` },
        minReplicas: 1,
        maxReplicas: 20,
        metrics: [
          resource('cpu', { type: 'Utilization', averageUtilization: 70 }),
          // 80 % of the limit.
          resource('memory', { type: 'AverageValue', averageValue: '410Mi' }),
        ],
        behavior: { scaleUp: byPods(30, 2, 15), scaleDown: byPods(120, 1, 60) },
      },
    });
    expect((await manager.remove(id)).status).toBe(204);
  });
});
