import type { KubernetesObject, V1Deployment } from '@kubernetes/client-node';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Convergence, NameTaken } from './convergence.js';
import { KubeApi } from './kube-api.js';
import { manifestsFor } from './manifests.js';
import { FUNCTION, placementOf, podOf, workloadOf } from './testing/objects.js';
import { json, refuse, ScriptedApi } from './testing/scripted-api.js';
import { View } from './view.js';

const MANIFESTS = manifestsFor(workloadOf(), placementOf());
const signal = AbortSignal.timeout(30_000);

/** What the API server has, by path; applying puts it there, reading a path that has nothing is a 404. */
let objects: Map<string, KubernetesObject>;
let server: ScriptedApi;
let view: View;
let convergence: Convergence;
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
  view = new View(server.access, api, 'me', pino({ level: 'silent' }));
  convergence = new Convergence(api, view, 'me', pino({ level: 'silent' }));
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

  it('applies what somebody changed, and nothing else', async () => {
    await convergence.apply(FUNCTION, MANIFESTS, signal);
    asked();
    const [service] = view.services.of(FUNCTION);
    view.services.learn({ ...service, spec: { ...service?.spec, selector: { app: 'theirs' } } });
    await convergence.apply(FUNCTION, MANIFESTS, signal);
    expect(asked()).toEqual([`PATCH services/service-${FUNCTION}`]);
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
    expect((objects.get(DEPLOYMENT_PATH) as V1Deployment).spec?.replicas).toBe(3);
  });

  describe('prunes', () => {
    const rolled = (status: V1Deployment['status']): V1Deployment => ({ metadata: { generation: 2 }, status });
    const DONE = rolled({ observedGeneration: 2, replicas: 1, updatedReplicas: 1 });
    const FORMER = manifestsFor(workloadOf({ revision: 6 }), placementOf());

    beforeEach(() => {
      for (const { code } of [FORMER, MANIFESTS]) view.code.learn(structuredClone(code));
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
      view.pods.learn(pod);
      await convergence.prune(FUNCTION, MANIFESTS, DONE, signal);
      expect(asked()).toEqual([]);
    });

    it('an autoscaler that has nothing to choose any more', async () => {
      view.autoscalers.learn(structuredClone(MANIFESTS.autoscaler!));
      await convergence.prune(FUNCTION, { ...FORMER, autoscaler: undefined }, rolled(undefined), signal);
      expect(asked()).toEqual([`DELETE horizontalpodautoscalers/hpa-${FUNCTION}`]);
    });

    it('evicted pods, which would stay for ever, but none that runs', async () => {
      view.pods.learn(podOf({ name: 'evicted', status: { phase: 'Failed', reason: 'Evicted' } }));
      view.pods.learn(podOf({ name: 'running' }));
      await convergence.prune(FUNCTION, MANIFESTS, rolled(undefined), signal);
      expect(server.asked[0]?.body).toContain('uid-of-evicted');
      expect(asked()).toEqual(['DELETE pods/evicted']);
    });
  });
});
