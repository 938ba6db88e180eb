import type { KubernetesObject, V1Deployment } from '@kubernetes/client-node';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Convergence, covers, NameTaken, replicasToSet } from './convergence.js';
import type { Change } from './deployment-events.js';
import { KubeApi } from './kube-api.js';
import { manifestsFor } from './manifests.js';
import { FUNCTION, placementOf, podOf, workloadOf } from './testing/objects.js';
import { json, refuse, ScriptedApi } from './testing/scripted-api.js';
import { ClusterCache } from './cluster-cache.js';
import fc from 'fast-check';

const MANIFESTS = manifestsFor(workloadOf(), placementOf());
const signal = AbortSignal.timeout(30_000);

/** What the API server has, by path; applying puts it there, reading a path that has nothing is a 404. */
let objects: Map<string, KubernetesObject>;
let server: ScriptedApi;
let cache: ClusterCache;
let convergence: Convergence;
let told: Change[];
let version = 0;

beforeEach(async () => {
  objects = new Map();
  server = await ScriptedApi.open(({ method, url, body }, response) => {
    const there = objects.get(url.pathname);
    if (method === 'PATCH') {
      const sent = JSON.parse(body) as KubernetesObject;
      const wanted = sent.metadata?.resourceVersion;
      if (wanted !== undefined && wanted !== there?.metadata?.resourceVersion) {
        return refuse(response, 409, 'Conflict', 'the object has been modified');
      }
      const metadata = { uid: `uid-of-${url.pathname}`, ...there?.metadata, ...sent.metadata };
      const object = { ...there, ...sent, metadata: { ...metadata, resourceVersion: String((version += 1)) } };
      objects.set(url.pathname, object);
      return json(response, 200, object);
    }
    if (there === undefined) return refuse(response, 404, 'NotFound', 'not found');
    if (method === 'DELETE') objects.delete(url.pathname);
    return json(response, 200, there);
  });
  const api = new KubeApi(server.access, 'scadable-faas');
  cache = new ClusterCache(server.access, api, 'me', pino({ level: 'silent' }));
  told = [];
  convergence = new Convergence(api, cache, 'me', pino({ level: 'silent' }), {
    tell: (_functionId, _deployment, { change }) => told.push(change),
  });
});

afterEach(() => server.close());

const asked = () =>
  server.asked.splice(0).map(({ method, url }) => `${method} ${url.pathname.split('/').slice(-2).join('/')}`);
const DEPLOYMENT_PATH = `/apis/apps/v1/namespaces/scadable-faas/deployments/faas-worker-${FUNCTION}`;

describe('Convergence', () => {
  it('makes the code before the Deployment that mounts it, and hangs everything on the Deployment', async () => {
    const { metadata } = await convergence.apply(FUNCTION, MANIFESTS, signal);
    const applied = asked().filter((line) => line.startsWith('PATCH'));
    expect(applied.slice(0, 2)).toEqual([
      `PATCH configmaps/handler-code-${FUNCTION}-7`,
      `PATCH deployments/faas-worker-${FUNCTION}`,
    ]);
    expect(objects.size).toBe(4);
    for (const [path, object] of objects) {
      const owners = object.metadata?.ownerReferences?.map(({ uid }) => uid);
      expect(owners, path).toEqual(path === DEPLOYMENT_PATH ? undefined : [metadata?.uid]);
    }
  });

  it('asks for nothing when everything is as it should be', async () => {
    await convergence.apply(FUNCTION, MANIFESTS, signal);
    asked();
    await convergence.apply(FUNCTION, MANIFESTS, signal);
    expect(asked()).toEqual([]);
  });

  it('writes secrets without reading any, and removes the former ones once no pod needs them', async () => {
    const withSecrets = (digest: string) =>
      manifestsFor(workloadOf({ secrets: { variables: { A: digest }, files: {}, digest } }), placementOf());
    const ofSecrets = () => asked().filter((line) => line.includes(' secrets/'));
    const signalled = (digest: string) => convergence.apply(FUNCTION, withSecrets(digest), signal);
    const first = await signalled('one');
    expect(ofSecrets()).toEqual([`PATCH secrets/secrets-${FUNCTION}-one`]);
    expect(objects.get(`/api/v1/namespaces/scadable-faas/secrets/secrets-${FUNCTION}-one`)?.metadata).toMatchObject({
      ownerReferences: [{ uid: first.metadata?.uid }],
    });
    await signalled('one');
    expect(ofSecrets()).toEqual([]);

    const next = await signalled('two');
    expect(ofSecrets()).toEqual([`PATCH secrets/secrets-${FUNCTION}-two`]);
    const noted = { ...next, status: { observedGeneration: 1, replicas: 1, updatedReplicas: 0 } };
    const rolling = { ...noted, metadata: { ...objects.get(DEPLOYMENT_PATH)?.metadata, generation: 1 } };
    rolling.metadata.annotations = { 'faas.former-secrets': `secrets-${FUNCTION}-one` };
    await convergence.prune(FUNCTION, withSecrets('two'), rolling, signal);
    expect(ofSecrets()).toEqual([]);
    const rolled = { ...rolling, status: { observedGeneration: 1, replicas: 1, updatedReplicas: 1 } };
    await convergence.prune(FUNCTION, withSecrets('two'), rolled, signal);
    expect(ofSecrets()).toEqual([`DELETE secrets/secrets-${FUNCTION}-one`]);
  });

  it('applies what somebody changed, and nothing else', async () => {
    await convergence.apply(FUNCTION, MANIFESTS, signal);
    asked();
    const [service] = cache.services.of(FUNCTION);
    cache.services.learn({ ...service, spec: { ...service?.spec, selector: { app: 'theirs' } } });
    await convergence.apply(FUNCTION, MANIFESTS, signal);
    expect(asked()).toEqual([`PATCH services/service-${FUNCTION}`]);
    expect(told).toEqual(['Created', 'Restored']);
  });

  it('tells another revision from what was changed by hand', async () => {
    await convergence.apply(FUNCTION, MANIFESTS, signal);
    const changed = manifestsFor(workloadOf({ revision: 8 }), { ...placementOf(), spec: 'another' });
    await convergence.apply(FUNCTION, changed, signal);
    await convergence.apply(FUNCTION, changed, signal);
    expect(told).toEqual(['Created', 'RolledOut']);
  });

  it.each([
    ['nobody’s label', {}],
    ['another installation’s', { labels: { 'faas.owner': 'you' } }],
    [
      'another installation’s, made by the same program',
      { labels: { 'faas.owner': 'you' }, managedFields: [{ manager: 'service-faas', operation: 'Apply' }] },
    ],
  ])('leaves an object with %s as it is, and says so', async (_what, metadata) => {
    const theirs = { metadata: { name: `faas-worker-${FUNCTION}`, ...metadata } };
    objects.set(DEPLOYMENT_PATH, theirs);
    const attempt = convergence.apply(FUNCTION, MANIFESTS, signal);
    await expect(attempt).rejects.toThrow(NameTaken);
    await expect(attempt).rejects.toThrow(/Deployment faas-worker-\w+ exists already and is not ours/);
    expect(objects.get(DEPLOYMENT_PATH)).toBe(theirs);
  });

  it('gives an object of ours back the label that somebody took away', async () => {
    objects.set(DEPLOYMENT_PATH, { metadata: { managedFields: [{ manager: 'service-faas', operation: 'Apply' }] } });
    await convergence.apply(FUNCTION, MANIFESTS, signal);
    expect(objects.get(DEPLOYMENT_PATH)?.metadata?.labels).toMatchObject({ 'faas.owner': 'me' });
  });

  it('sets replicas once, and leaves them to somebody who was faster', async () => {
    const applied = await convergence.apply(FUNCTION, MANIFESTS, signal);
    const wish = { wanted: 3, autoscaled: false, hopeless: false };
    const scaled = await convergence.scale(applied, wish, signal);
    expect(scaled.spec?.replicas).toBe(3);
    asked();
    expect(await convergence.scale(scaled, wish, signal)).toBe(scaled);
    expect(asked()).toEqual([]);
    const stale: V1Deployment = { ...applied, spec: { ...applied.spec!, replicas: 9 } };
    expect(await convergence.scale(stale, wish, signal)).toBe(stale);
    expect(told).toEqual(['Created', 'Scaled']);
    expect((objects.get(DEPLOYMENT_PATH) as V1Deployment).spec?.replicas).toBe(3);
  });

  describe('prunes', () => {
    const rolled = (status: V1Deployment['status']): V1Deployment => ({ metadata: { generation: 2 }, status });
    const DONE = rolled({ observedGeneration: 2, replicas: 1, updatedReplicas: 1 });
    const FORMER = manifestsFor(workloadOf({ revision: 6 }), placementOf());

    beforeEach(() => {
      for (const { code } of [FORMER, MANIFESTS]) cache.code.learn(structuredClone(code));
    });

    it('the code of a former revision, when the rollout is over and none of its pods is left', async () => {
      await convergence.prune(FUNCTION, MANIFESTS, DONE, signal);
      expect(asked()).toEqual([`DELETE configmaps/handler-code-${FUNCTION}-6`]);
    });

    it.each([
      ['goes on', rolled({ observedGeneration: 2, replicas: 2, updatedReplicas: 1 })],
      ['hasn’t begun', rolled({ observedGeneration: 1, replicas: 1, updatedReplicas: 1 })],
      ['isn’t known of', rolled(undefined)],
    ])('no code while the rollout %s: a pod of the former revision may be made again', async (_what, deployment) => {
      await convergence.prune(FUNCTION, MANIFESTS, deployment, signal);
      expect(asked()).toEqual([]);
    });

    it('no code that a pod has, even a leaving one', async () => {
      const pod = podOf();
      pod.metadata!.labels!['faas.revision'] = '6';
      cache.pods.learn(pod);
      await convergence.prune(FUNCTION, MANIFESTS, DONE, signal);
      expect(asked()).toEqual([]);
    });

    it('an autoscaler that has nothing to choose any more', async () => {
      cache.autoscalers.learn(structuredClone(MANIFESTS.autoscaler!));
      await convergence.prune(FUNCTION, { ...FORMER, autoscaler: undefined }, rolled(undefined), signal);
      expect(asked()).toEqual([`DELETE horizontalpodautoscalers/hpa-${FUNCTION}`]);
    });

    it('evicted pods, which would stay for ever, but none that runs', async () => {
      cache.pods.learn(podOf({ name: 'evicted', status: { phase: 'Failed', reason: 'Evicted' } }));
      cache.pods.learn(podOf({ name: 'running' }));
      await convergence.prune(FUNCTION, MANIFESTS, rolled(undefined), signal);
      expect(server.asked[0]?.body).toContain('uid-of-evicted');
      expect(asked()).toEqual(['DELETE pods/evicted']);
    });
  });
});

describe('covers', () => {
  it.each([
    ['what others added', { a: 1, status: {} }, { a: 1 }, true],
    ['a field that nothing is said of', { a: 1 }, { a: 1, b: undefined }, true],
    ['another value', { a: 1 }, { a: 2 }, false],
    ['a value of another type', { a: '1' }, { a: 1 }, false],
    ['a missing field', {}, { a: 1 }, false],
    ['a false that is missing', {}, { a: false }, false],
    ['nothing at all', undefined, { a: 1 }, false],
    ['null where an object belongs', { a: null }, { a: {} }, false],
    ['a list with defaults in its elements', { l: [{ a: 1, b: 2 }] }, { l: [{ a: 1 }] }, true],
    ['a list that is longer', { l: [1, 2] }, { l: [1] }, false],
    ['a list that is shorter', { l: [1] }, { l: [1, 2] }, false],
    ['a list in another order', { l: [1, 2] }, { l: [2, 1] }, false],
    ['an object where a list belongs', { l: {} }, { l: [] }, false],
  ])('sees %s', (_what, live, wanted, answer) => expect(covers(live, wanted)).toBe(answer));

  it('lets every object cover itself, whatever is added to it', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue(), (wanted, more) => {
        expect(covers(wanted, wanted)).toBe(true);
        expect(covers({ more, ...wanted }, wanted)).toBe(true);
      }),
    );
  });

  it('notices every element that is gone', () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), fc.nat(), (list, at) => {
        expect(covers({ list: list.toSpliced(at % list.length, 1) }, { list })).toBe(false);
      }),
    );
  });
});

const deployment = (replicas?: number) => ({ spec: { replicas } as never });
const wish = (wanted: number, autoscaled = false, hopeless = false) => ({ wanted, autoscaled, hopeless });

describe('replicasToSet', () => {
  it.each([
    ['leaves a right count alone', 2, wish(2), undefined],
    ['raises a fixed count', 1, wish(3), 3],
    ['lowers a fixed count', 3, wish(1), 1],
    ['takes an unset count for the one that Kubernetes makes of it', undefined, wish(1), undefined],
    ['leaves what the autoscaler chose above the wanted', 7, wish(1, true), undefined],
    ['raises what the autoscaler has below the wanted', 1, wish(3, true), 3],
    ['wakes what the autoscaler leaves at none', 0, wish(1, true), 1],
    ['takes all away from a function that wants none', 7, wish(0, true), 0],
    ['takes all away from code that can’t be loaded', 1, wish(1, true, true), 0],
    ['has nothing left to take', 0, wish(0, true), undefined],
    ['doesn’t wake code that can’t be loaded', 0, wish(2, false, true), undefined],
  ])('%s', (_what, current, wanted, set) => expect(replicasToSet(deployment(current), wanted)).toBe(set));

  it('comes to rest after one change, whatever is wanted', () => {
    const wishes = fc.record({ wanted: fc.nat(50), autoscaled: fc.boolean(), hopeless: fc.boolean() });
    fc.assert(
      fc.property(fc.nat(50), wishes, (current, some) => {
        const set = replicasToSet(deployment(current), some);
        expect(set).not.toBe(current);
        if (set !== undefined) expect(replicasToSet(deployment(set), some)).toBeUndefined();
      }),
    );
  });
});
