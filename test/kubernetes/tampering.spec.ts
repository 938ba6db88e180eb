import type { KubernetesObject, V1Deployment, V1Service, V2HorizontalPodAutoscaler } from '@kubernetes/client-node';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { AUTOSCALER, CONFIG_MAP, DEPLOYMENT, type Kind, SERVICE } from '#libs/orchestrator-kubernetes/kinds.js';
import type { FunctionDetailDto } from '../client/index.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { ON_CLUSTER } from '../support/engine.js';
import { eitherCluster } from './support/either-cluster.js';
import { foreignObject } from './support/foreign-object.js';
import type { KubernetesRoom } from './support/kubernetes-room.js';
import { TELLTALE } from './support/handlers.js';
import { Traffic } from './support/traffic.js';
import { setLoad, whyNoControlPlane } from './control-plane/shared.js';

const noCluster = !ON_CLUSTER && whyNoControlPlane() !== undefined;

const JSON_BODY = { 'Content-Type': 'application/json' };
const SECONDS = { timeout: 60_000, interval: 200 };

/** The count of replicas stays as it is set by hand. */
const ENV = { HPA_MAX_REPLICAS: '2', HPA_DOWN_WINDOW_SECONDS: '3600' };

interface KindOf {
  readonly kind: Kind;
  nameOf(id: string): string;
}

const SERVICE_KIND: KindOf = { kind: SERVICE, nameOf: (id) => `service-${id}` };
const KINDS: readonly KindOf[] = [
  { kind: CONFIG_MAP, nameOf: (id) => `handler-code-${id}-1` },
  SERVICE_KIND,
  { kind: AUTOSCALER, nameOf: (id) => `hpa-${id}` },
  { kind: DEPLOYMENT, nameOf: (id) => `faas-worker-${id}` },
];

describe.skipIf(noCluster)('objects that others touch [kubernetes]', () => {
  let room: KubernetesRoom;
  const stage = Stage.on(
    eitherCluster((opened) => (room = opened)),
    ENV,
  );
  let id: string;
  beforeAll(async () => {
    ({ id } = await stage.manager.add(TELLTALE));
  });

  const call = () => stage.manager.call(id, 'sleep 0.02');
  const detail = async () => (await stage.manager.send(`/functions/${id}`)).json() as FunctionDetailDto;
  const settled = () =>
    vi.waitFor(
      async () => {
        const { status, conditions } = await detail();
        expect([status, ...conditions.map((condition) => condition.status)]).toEqual(['running', true, true]);
      },
      { timeout: 60_000, interval: 200 },
    );

  it.each(KINDS)('makes its $kind.kind again when it was deleted, while calls go on', async ({ kind, nameOf }) => {
    const before = await room.cluster.get(kind, nameOf(id));
    const traffic = new Traffic(2, call);
    await traffic.more(5);
    await room.cluster.delete(kind, nameOf(id));
    await vi.waitFor(async () => {
      const now = await room.cluster.get(kind, nameOf(id));
      expect(now.metadata?.uid).not.toBe(before.metadata?.uid);
      expect(now.metadata?.deletionTimestamp).toBeUndefined();
      expect(now).toMatchObject(contentOf(before));
    }, SECONDS);
    await settled();
    await traffic.more(10);
    expect(await traffic.stop()).toEqual([]);
  });

  it('replaces a pod that was deleted without its grace, and goes on', async () => {
    const [before] = await room.workers();
    await room.cluster.endPods(id);
    await vi.waitFor(async () => expect((await call()).status).toBe(200), SECONDS);
    await vi.waitFor(async () => expect(await room.workers()).not.toContain(before), SECONDS);
    await settled();
  });

  it('replaces pods that are evicted, while each revision answers the calls that name it', async () => {
    const { cluster } = room;
    const others = await room.workers();
    const two = await stage.manager.add(TELLTALE);
    const send = (method: string, path: string, body: object) =>
      stage.manager.send(`/functions/${two.id}/${path}`, { method, headers: JSON_BODY, body: JSON.stringify(body) });
    const revised = await send('POST', 'revisions', { code: `${TELLTALE}\n` });
    expect(revised.status, revised.text).toBe(201);
    const targets = [1, 2].map((revision) => ({ revision, percent: 50 }));
    const divided = await send('PUT', 'traffic', { targets });
    expect(divided.status, divided.text).toBe(200);
    const answered = new Set<string>();
    const traffic = new Traffic(targets.length, async (caller) => {
      const { revision } = targets[caller]!;
      const answer = await send('POST', `execute?revision=${revision}`, { payload: 'sleep 0.02' });
      answered.add(`${revision} by ${String(answer.headers['x-faas-revision'])}`);
      return answer;
    });
    await traffic.more(10);
    const workers = async () => (await room.workers()).filter((name) => !others.includes(name));
    // The pod that the first revision had before it got traffic again may still be ending.
    const before = await vi.waitFor(async () => {
      const now = await workers();
      expect(now).toHaveLength(targets.length);
      return now;
    }, SECONDS);
    await Promise.all(before.map((name) => cluster.evict(name)));
    await vi.waitFor(async () => {
      const now = await workers();
      expect([now.length, now.filter((name) => before.includes(name))]).toEqual([2, []]);
    }, SECONDS);
    await traffic.more(10);
    expect(await traffic.stop()).toEqual([]);
    expect([...answered].toSorted()).toEqual(['1 by 1', '2 by 2']);
    await stage.manager.remove(two.id);
  });

  it('takes back what was edited: image, selector, ports, bounds', async () => {
    const { cluster } = room;
    const deployment = () => cluster.get(DEPLOYMENT, `faas-worker-${id}`) as Promise<V1Deployment>;
    const service = () => cluster.get(SERVICE, `service-${id}`) as Promise<V1Service>;
    const autoscaler = () => cluster.get(AUTOSCALER, `hpa-${id}`) as Promise<V2HorizontalPodAutoscaler>;
    const before = await Promise.all([deployment(), service(), autoscaler()]);
    const traffic = new Traffic(2, call);
    await traffic.more(5);
    await Promise.all([
      cluster.merge(DEPLOYMENT, `faas-worker-${id}`, {
        metadata: { labels: { app: 'mine' } },
        spec: { template: { spec: { terminationGracePeriodSeconds: 20 } } },
      }),
      cluster.merge(SERVICE, `service-${id}`, { spec: { selector: { app: 'mine' } } }),
      cluster.merge(AUTOSCALER, `hpa-${id}`, { spec: { maxReplicas: 7 } }),
    ]);
    await vi.waitFor(async () => {
      const [then, now] = [before, await Promise.all([deployment(), service(), autoscaler()])];
      for (const [index, object] of now.entries()) expect(object).toMatchObject(contentOf(then[index]!));
    }, SECONDS);
    await settled();
    await traffic.more(10);
    expect(await traffic.stop()).toEqual([]);
  });

  it('leaves alone what others add: annotations, labels, and the replicas that the autoscaler may choose', async () => {
    const { cluster } = room;
    const name = `faas-worker-${id}`;
    const want = async (replicas?: number) => {
      if (!ON_CLUSTER) await setLoad({ namespace: cluster.namespace, autoscaler: `hpa-${id}`, replicas });
    };
    await want(2);
    const theirs = { annotations: { 'team.example/owner': 'billing' }, labels: { team: 'billing' } };
    await cluster.merge(DEPLOYMENT, name, { metadata: theirs, spec: { replicas: 2 } });
    // A change of ours is applied over it.
    await cluster.merge(DEPLOYMENT, name, { spec: { revisionHistoryLimit: 9 } });
    await vi.waitFor(async () => {
      const { metadata, spec, status } = (await cluster.get(DEPLOYMENT, name)) as V1Deployment;
      expect({ history: spec?.revisionHistoryLimit, ready: status?.readyReplicas }).toEqual({ history: 2, ready: 2 });
      expect(metadata).toMatchObject(theirs);
      expect(spec?.replicas).toBe(2);
    }, SECONDS);
    await vi.waitFor(
      async () => expect(await detail()).toMatchObject({ status: 'running', ready_replicas: 2 }),
      SECONDS,
    );
    await want();
    await cluster.merge(DEPLOYMENT, name, { spec: { replicas: 1 } });
    await settled();
  });

  it('brings a function back that somebody scaled to nothing', async () => {
    await room.cluster.merge(DEPLOYMENT, `faas-worker-${id}`, { spec: { replicas: 0 } });
    await vi.waitFor(async () => {
      const { spec } = (await room.cluster.get(DEPLOYMENT, `faas-worker-${id}`)) as V1Deployment;
      expect(spec?.replicas).toBe(1);
    }, SECONDS);
    expect((await call()).status).toBe(200);
    await settled();
  });

  // Backing off takes its time over HTTP: foreign-objects.spec.ts has every kind, without a manager around it.
  describe.each(ON_CLUSTER ? KINDS : [SERVICE_KIND])(
    'a $kind.kind that is not ours and has our name',
    ({ kind, nameOf }) => {
      let manager: TestManager;
      afterEach(() => manager?.stop());

      it('is said to be there and left untouched, and its function heals when it goes', async () => {
        const { cluster } = room;
        await stage.manager.stop();
        const name = nameOf(id);
        await cluster.delete(kind, name);
        await cluster.gone(kind, name);
        const foreign = await cluster.objects.create(foreignObject(kind, name, cluster.namespace));
        manager = await stage.start(ENV);
        const own = async () => (await manager.send(`/functions/${id}`)).json() as FunctionDetailDto;
        await vi.waitFor(async () => {
          const reconciled = (await own()).conditions.find(({ type }) => type === 'Reconciled');
          expect(reconciled).toMatchObject({
            status: false,
            reason: 'rejected',
            message: expect.stringContaining(`the ${kind.kind} ${name} exists already and is not ours`) as string,
          });
        }, SECONDS);
        // Which pods may be called is known from the Service's endpoints.
        if (kind === DEPLOYMENT || kind === SERVICE) {
          expectProblem(await manager.call(id, ''), 409, 'function_not_runnable');
        } else expect((await manager.call(id, '')).status).toBe(200);
        const now = await cluster.get(kind, name);
        expect(now.metadata).toMatchObject({ uid: foreign.metadata?.uid, labels: { app: 'mine' } });
        expect(now.metadata?.labels).toEqual(foreign.metadata?.labels);

        const removed = await manager.remove((await manager.add(TELLTALE)).id);
        expect(removed.status).toBe(204);
        expect((await cluster.get(kind, name)).metadata?.uid).toBe(foreign.metadata?.uid);
        await cluster.delete(kind, name);
        await cluster.gone(kind, name);
        await vi.waitFor(
          async () => {
            const { status, conditions } = await own();
            expect([status, ...conditions.map((condition) => condition.status)]).toEqual(['running', true, true]);
          },
          { timeout: 90_000, interval: 250 },
        );
        await vi.waitFor(async () => expect((await manager.call(id, '')).status).toBe(200), SECONDS);
      });
    },
  );
});

/** What is said to be wanted, without what the cluster writes by itself. */
function contentOf(object: KubernetesObject & { spec?: object; data?: object }): object {
  const { metadata, spec, data } = structuredClone(object);
  const wanted: { clusterIP?: string; clusterIPs?: string[]; replicas?: number } | undefined = spec;
  delete wanted?.clusterIP;
  delete wanted?.clusterIPs;
  delete wanted?.replicas;
  return { metadata: { labels: metadata?.labels }, ...(wanted && { spec: wanted }), ...(data && { data }) };
}
