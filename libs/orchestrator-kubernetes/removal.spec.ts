import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { KubeApi } from './kube-api.js';
import { Removal } from './removal.js';
import { at, FUNCTION, podOf } from './testing/objects.js';
import { json, ScriptedApi } from './testing/scripted-api.js';
import { ClusterCache } from './cluster-cache.js';

let server: ScriptedApi;
let cache: ClusterCache;
afterEach(() => {
  cache.close();
  server.close();
});

const signal = AbortSignal.timeout(30_000);

/** An API server that has these objects, by kind, and tells of every deletion it is asked for. */
async function removalOn(
  objects: Record<string, unknown[]>,
  deleted: () => void,
  overdueMs?: number,
): Promise<Removal> {
  server = await ScriptedApi.open(({ method, url }, response) => {
    // A watch that has nothing to tell.
    if (url.searchParams.has('watch')) {
      response.writeHead(200).flushHeaders();
      return;
    }
    const kind = url.pathname.split('/').find((part) => part in objects);
    if (method === 'DELETE') deleted();
    json(response, 200, { metadata: { resourceVersion: '1' }, items: kind === undefined ? [] : objects[kind] });
  });
  const api = new KubeApi(server.access, 'functions');
  cache = new ClusterCache(server.access, api, 'me', pino({ level: 'silent' }));
  return new Removal(api, cache, 'me', overdueMs);
}

const deletions = () =>
  server.asked
    .filter(({ method }) => method === 'DELETE')
    .map(({ url, body }) => [url.pathname.split('/').at(-1), JSON.parse(body) as object]);

describe('Removal', () => {
  it('asks for nothing when there is nothing', async () => {
    await (await removalOn({}, () => undefined)).all(FUNCTION, 1_000, signal);
    expect(deletions()).toEqual([]);
  });

  it('deletes the Deployment in the foreground, gives its pods the grace asked for, and returns when none is left', async () => {
    const objects: Record<string, unknown[]> = {
      deployments: [{ metadata: { name: 'd' } }],
      pods: [podOf({ name: 'p' })],
    };
    const removal = await removalOn(objects, () => {
      if (server.asked.filter(({ method }) => method === 'DELETE').length < 2) return;
      for (const kind of Object.keys(objects)) objects[kind] = [];
    });
    await removal.all(FUNCTION, 2_500, signal);
    expect(deletions()).toEqual(
      expect.arrayContaining([
        ['d', { propagationPolicy: 'Foreground' }],
        ['p', { gracePeriodSeconds: 3, preconditions: { uid: 'uid-of-p' } }],
      ]),
    );
    expect(deletions()).toHaveLength(2);
  });

  it('lets pods be that leave soon enough, and hastens those that would take longer', async () => {
    const leaving = (name: string, deletionGracePeriodSeconds: number) =>
      podOf({ name, metadata: { deletionTimestamp: at('2026-06-01T12:00:00Z'), deletionGracePeriodSeconds } });
    const objects: Record<string, unknown[]> = { pods: [leaving('soon', 2), leaving('late', 60)] };
    const removal = await removalOn(objects, () => (objects['pods'] = []));
    await removal.all(FUNCTION, 2_000, signal);
    expect(deletions().map(([name]) => name)).toEqual(['late']);
  });

  it('names the finalizer that blocks a deletion, and doesn’t call the cluster unreachable', async () => {
    const held = {
      metadata: { name: 'd', deletionTimestamp: '2026-06-01T12:00:00Z', finalizers: ['example.com/keep'] },
    };
    const removal = await removalOn({ deployments: [held] }, () => undefined, 0);
    await expect(removal.all(FUNCTION, 0, signal)).rejects.toThrow(
      'The Kubernetes engine has not finished a deletion: still there after 0 ms: d (finalizers example.com/keep)',
    );
  });

  it('doesn’t wait for ever for a node that doesn’t answer, and names it', async () => {
    const stuck = podOf({ name: 'stuck', metadata: { deletionTimestamp: at('2026-06-01T12:00:00Z') } });
    stuck.metadata!.deletionGracePeriodSeconds = 1;
    const removal = await removalOn(
      { pods: [{ ...stuck, spec: { nodeName: 'node-3', containers: [] } }] },
      () => undefined,
      0,
    );
    const attempt = removal.all(FUNCTION, 0, signal);
    await expect(attempt).rejects.toThrow(OrchestratorUnavailable);
    await expect(attempt).rejects.toThrow(/stuck \(on the node node-3\)/);
  });
});
