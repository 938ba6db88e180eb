import type { V1Deployment, V1LimitRangeItem, V1Pod } from '@kubernetes/client-node';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { DEPLOYMENT } from '#libs/orchestrator-kubernetes/kinds.js';
import type { FunctionDetailDto } from '../client/index.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';
import { whyNoControlPlane } from './control-plane/shared.js';
import { PoolView } from './support/pool-pods.js';
import { smallEngine, type SmallRoom } from './support/small-room.js';

const noCluster = whyNoControlPlane() !== undefined;

const REFUSED_WITHIN_MS = 2_000;
const HEALED = { timeout: 60_000, interval: 100 };
const QUOTA = { name: 'tight' };

describe.skipIf(noCluster)('a namespace with a quota, limits and a pod security level [kubernetes]', () => {
  let room: SmallRoom;
  const stage = Stage.on(smallEngine((opened) => (room = opened)));
  const quota = (hard: Record<string, string>) =>
    room.cluster.core.createNamespacedResourceQuota({
      namespace: room.cluster.namespace,
      body: { metadata: QUOTA, spec: { hard } },
    });
  const limits = async (limit: V1LimitRangeItem) => {
    const { core, namespace } = room.cluster;
    await core.createNamespacedLimitRange({ namespace, body: { metadata: QUOTA, spec: { limits: [limit] } } });
  };
  const detail = async (id: string) => (await stage.manager.send(`/functions/${id}`)).json() as FunctionDetailDto;

  afterEach(async () => {
    const { core, namespace } = room.cluster;
    await room.cluster.admitAll();
    await withoutQuota();
    await core.deleteCollectionNamespacedLimitRange({ namespace });
  });

  /** Refused with these words, within two seconds, and nothing is left. */
  async function refused(words: string): Promise<void> {
    const begun = performance.now();
    const answer = await stage.manager.send('/functions', { method: 'POST', ...upload(ECHO) });
    const took = performance.now() - begun;
    expect(expectProblem(answer, 503, 'function_not_ready').detail).toContain(words);
    expect(took).toBeLessThan(REFUSED_WITHIN_MS);
    await vi.waitFor(async () => {
      expect(await room.cluster.leftovers()).toEqual([]);
      expect((await stage.manager.send('/functions')).text).toBe('[]');
    }, HEALED);
  }

  const withoutQuota = () =>
    room.cluster.core.deleteCollectionNamespacedResourceQuota({ namespace: room.cluster.namespace });

  it('an upload over the quota is told so at once, and goes through when the quota grows', async () => {
    await quota({ pods: '0' });
    await refused('exceeded quota: tight, requested: pods=1, used: pods=0, limited: pods=0');
    await withoutQuota();
    const { id } = await stage.manager.add(ECHO);
    expect((await stage.manager.call(id, 'x')).text).toBe('{"result":"x"}');
    expect((await stage.manager.remove(id)).status).toBe(204);
  });

  it('an upload that an admission policy refuses is told so at once', async () => {
    await room.cluster.refuse({ plural: 'deployments' }, 'not in this team');
    await refused('not in this team');
    await room.cluster.admitAll();
    await room.cluster.refuse({ plural: 'services' }, 'no Services either');
    await refused('no Services either');
  });

  it('a function that loses its pod to a full quota says why, and heals when the quota grows', async () => {
    const { id } = await stage.manager.add(ECHO);
    await quota({ 'limits.memory': '100Mi' });
    await room.cluster.endPods(id);
    await vi.waitFor(async () => {
      const { last_error, conditions } = await detail(id);
      expect(last_error?.message).toContain('exceeded quota: tight, requested: limits.memory=');
      expect(conditions).toContainEqual(expect.objectContaining({ status: false, reason: 'rejected' }));
    }, HEALED);
    await withoutQuota();
    await vi.waitFor(async () => expect((await stage.manager.call(id, 'x')).text).toBe('{"result":"x"}'), HEALED);
    expect((await stage.manager.remove(id)).status).toBe(204);
  });

  it('limits that a worker is within let it run as it is, and others are named', async () => {
    const fitting = { cpu: '1', memory: '1Gi', 'ephemeral-storage': '1Gi' };
    const small = { cpu: '1m', memory: '1Mi' };
    await limits({ type: 'Container', max: fitting, min: small, _default: fitting, defaultRequest: small });
    const { id } = await stage.manager.add(ECHO);
    const [pod] = (await room.cluster.of(id)) as V1Pod[];
    const [own] = ((await room.cluster.get(DEPLOYMENT, `faas-worker-${id}`)) as V1Deployment).spec!.template.spec!
      .containers;
    expect(pod!.spec!.containers[0]!.resources).toEqual(own!.resources);
    expect((await stage.manager.remove(id)).status).toBe(204);
    await room.cluster.core.deleteCollectionNamespacedLimitRange({ namespace: room.cluster.namespace });
    await limits({ type: 'Container', max: { memory: '200Mi' } });
    await refused('maximum memory usage per Container is 200Mi, but limit is 512Mi');
  });

  it('the restricted pod security level, enforced, admits workers and those that wait', async () => {
    const { cluster } = room;
    const { metadata } = await cluster.core.readNamespace({ name: cluster.namespace });
    expect(metadata?.labels).toMatchObject({ 'pod-security.kubernetes.io/enforce': 'restricted' });
    const body = { metadata: { name: 'loose' }, spec: { containers: [{ name: 'any', image: 'any' }] } };
    await expect(cluster.core.createNamespacedPod({ namespace: cluster.namespace, body })).rejects.toThrow(
      'violates PodSecurity',
    );
    const pooled = await stage.start({ WARM_POOL_SIZE: '1' });
    expect(await new PoolView(cluster).filled(1)).toHaveLength(1);
    const { id } = await pooled.add(ECHO);
    expect((await pooled.call(id, 'x')).text).toBe('{"result":"x"}');
    await vi.waitFor(async () => {
      const own = (await cluster.of(id)).map(({ metadata: { name = '' } = {} }) => name);
      expect(own).toEqual([expect.stringMatching(/^faas-worker-/)]);
    }, HEALED);
    expect((await pooled.remove(id)).status).toBe(204);
    await pooled.stop();
  });
});
