import { readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { V1Container, V1Pod } from '@kubernetes/client-node';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { PoolConfig } from '#libs/config/config.js';
import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { type BuildRequest, type Layer } from '#libs/orchestrator/layers.js';
import { IMPORTING } from '#libs/orchestrator/testing/contract.handlers.js';
import { layerOf } from '#libs/orchestrator/testing/contract.layers.js';
import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { podOf } from '#libs/orchestrator-kubernetes/replica.js';
import { PackageIndex } from '../support/package-index.js';
import { wheel } from '../support/wheels.js';
import { whyNoControlPlane } from './control-plane/shared.js';
import { OfferedLayers } from './support/offered-layers.js';
import { PoolView } from './support/pool-pods.js';
import { ProviderSuite } from './support/provider.js';

const noCluster = whyNoControlPlane() !== undefined;

/** As the workloads of a stage are limited. */
const POOL: PoolConfig = { size: 1, memoryMiB: 256, cpuMillis: 500, pids: 64 };
const SLOW = { timeout: 60_000, interval: 50 };

describe.skipIf(noCluster)('packages on a cluster [kubernetes]', { timeout: 120_000 }, () => {
  const suite = ProviderSuite.on({}, { HPA_MAX_REPLICAS: '1' }, POOL);
  let index: PackageIndex;
  let offered: OfferedLayers;
  let served: Record<string, string>;

  beforeAll(async () => {
    index = await PackageIndex.open();
    index.add(wheel('purepkg'));
    const { LAYERS_ADDR, LAYERS_URL } = suite.cluster.env;
    served = { LAYERS_ADDR: LAYERS_ADDR!, LAYERS_URL: LAYERS_URL! };
    const place = suite.cluster.configOf(served).layers!.served!;
    offered = await OfferedLayers.at(place, pino({ level: 'silent' }));
  });
  afterEach(async () => {
    index.letGo();
    await suite.cluster.admitAll();
  });
  afterAll(() => {
    index.close();
    offered.close();
  });

  const request = (requirements: string): BuildRequest => ({ requirements, isLock: false, requiresPython: '' });
  const withIndex = (env: Record<string, string> = {}) =>
    suite.provider({ ...served, PYTHON_INDEX_URL: index.url.replace('//', '//reader:pA55w0rd@'), ...env }, undefined, {
      ...POOL,
      size: 0,
    });
  const build = (manager: Orchestrator, requirements: string, signal = suite.stage.signal()) => {
    const lines: string[] = [];
    const keep = async (built: { lock: string; archive: () => Promise<NodeJS.ReadableStream> }) => ({
      lines,
      lock: built.lock,
      archive: await buffer(await built.archive()),
    });
    return manager.layers!.build(request(requirements), (line) => lines.push(line), keep, signal);
  };
  const podsOfBuilds = async () =>
    ((await suite.cluster.ours(POD)) as V1Pod[]).filter(({ metadata }) => metadata?.labels?.['app'] === 'faas-builder');

  const sweeps = async () =>
    (await suite.cluster.ours(POD)).filter(({ metadata }) => metadata?.name?.startsWith('faas-sweep-') === true);

  async function closing(manager: Orchestrator, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } finally {
      await manager.close();
    }
  }

  it('are fetched by a pod that waited, which serves before the function’s own pods do', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    const layer = await layerOf(`word of ${stage.owner}`);
    offered.offer(layer);
    const workload = stage.workload(IMPORTING, { layer });
    // Its own pods don't come up yet.
    await suite.cluster.refuse({ plural: 'pods' }, 'not now');
    const first = await stage.settle(manager, workload, ({ endpoints }) => endpoints.length > 0);
    expect(podOf(first.endpoints[0]?.replica ?? '')).toMatch(/^faas-pool-/);
    expect((await stage.call(first.endpoints[0], '')).body).toEqual({ result: `word of ${stage.owner}` });
    await suite.cluster.admitAll();
    const own = await stage.settle(manager, workload, ({ endpoints }) =>
      endpoints.some(({ replica }) => podOf(replica).startsWith('faas-worker-')),
    );
    expect((await stage.call(own.endpoints[0], '')).body).toEqual({ result: `word of ${stage.owner}` });
  });

  it('that are others than they must be never get to a worker, and the function says why', async () => {
    const { stage } = suite;
    const manager = await stage.manager();
    const sound = await layerOf(`tampered of ${stage.owner}`);
    const layer: Layer = {
      ...sound,
      describe: async (signal) => ({ ...(await sound.describe(signal)), sha256: '0'.repeat(64) }),
    };
    offered.offer(layer);
    const seen = await stage.settle(
      manager,
      stage.workload(IMPORTING, { layer }),
      ({ reason }) => reason?.message.includes('packages') === true,
    );
    expect(seen).toMatchObject({ ready: 0, endpoints: [], reason: { code: 'worker_crashed', terminal: false } });
    expect(seen.reason?.message).toMatch(/packages did not get to the worker: .* others than were asked for/);
  });

  it('lie in a claim where there is one, put there once for all pods, until nobody keeps them', async () => {
    const { stage, cluster } = suite;
    const folder = join(await cluster.claim('layers'), 'packages');
    const env = { ...served, KUBERNETES_LAYERS_CLAIM: 'layers' };
    const none = { ...POOL, size: 0 };
    const [one, other] = [suite.provider(env, undefined, none), suite.provider(env, undefined, none)];
    let opened = 0;
    const offer = async (word: string) => {
      const layer = await layerOf(`${word} of ${stage.owner}`);
      const open: Layer['open'] = (signal) => {
        opened += 1;
        return layer.open(signal);
      };
      offered.offer({ ...layer, open });
      return layer;
    };
    const [kept, gone] = [await offer('kept'), await offer('gone')];
    await closing(other, () =>
      closing(one, async () => {
        const workload = stage.workload(IMPORTING, { layer: kept });
        await stage.settleReady(one, workload);
        const passing = stage.workload(IMPORTING, { layer: gone });
        await stage.settleReady(other, passing);
        expect(opened).toBe(2);
        const seen = await stage.settleReady(other, { ...workload, replicas: 2 });
        for (const endpoint of seen.endpoints) {
          expect((await stage.call(endpoint, '')).body).toEqual({ result: `kept of ${stage.owner}` });
        }
        expect(opened).toBe(2);
        const digests = [kept, gone].map(({ digest }) => digest).toSorted();
        const names = await readdir(folder);
        expect(names.map((name) => name.slice(0, 64)).toSorted()).toEqual(digests);

        const [pod] = (await cluster.of(workload.functionId)) as V1Pod[];
        const mountsOf = (containers: readonly V1Container[] = []) =>
          containers
            .flatMap(({ volumeMounts = [] }) => volumeMounts)
            .filter(({ mountPath }) => mountPath === '/layers');
        expect(mountsOf(pod?.spec?.containers).map(({ readOnly }) => readOnly)).toEqual([true]);
        expect(mountsOf(pod?.spec?.initContainers)).toHaveLength(1);
        expect(pod?.spec?.volumes).toContainEqual({ name: 'layer', persistentVolumeClaim: { claimName: 'layers' } });

        await stage.remove(other, passing.functionId);
        const managers = [one, other];
        // Whatever lies there when they begin, they have a look; what both have of it is kept.
        for (const manager of managers) await manager.layers!.sweep(new Set(digests), stage.signal());
        const former = await sweeps();
        for (const name of names) await utimes(join(folder, name), 0, 0);
        await Promise.all(managers.map((manager) => manager.layers!.sweep(new Set([kept.digest]), stage.signal())));
        // Two, where a minute has begun between them.
        expect((await sweeps()).length - former.length).toBeLessThanOrEqual(2);
        const left = names.filter((name) => name.startsWith(kept.digest));
        await vi.waitFor(async () => expect(await readdir(folder)).toEqual(left), SLOW);
        expect((await stage.call(seen.endpoints[0], '')).body).toEqual({ result: `kept of ${stage.owner}` });
        await stage.remove(one, workload.functionId);
      }),
    );
  });

  it('that no claim has yet are fetched by a pod that waited, which may only read the claim', async () => {
    const { stage, cluster } = suite;
    await cluster.claim('fetched-layers');
    const manager = suite.provider({ ...served, KUBERNETES_LAYERS_CLAIM: 'fetched-layers' });
    await closing(manager, async () => {
      const layer = await layerOf(`new of ${stage.owner}`);
      offered.offer(layer);
      const workload = stage.workload(IMPORTING, { layer });
      manager.watch(() => undefined, stage.signal()).catch(() => undefined);
      const pool = new PoolView(cluster, stage.owner);
      await pool.filled(1);
      const [pod] = await pool.all();
      expect(pod?.spec?.volumes).toContainEqual({
        name: 'layers',
        persistentVolumeClaim: { claimName: 'fetched-layers', readOnly: true },
      });
      await cluster.refuse({ plural: 'pods', operation: 'CREATE' }, 'not now');
      const seen = await stage.settle(manager, workload, ({ endpoints }) => endpoints.length > 0);
      expect(podOf(seen.endpoints[0]?.replica ?? '')).toMatch(/^faas-pool-/);
      expect((await stage.call(seen.endpoints[0], '')).body).toEqual({ result: `new of ${stage.owner}` });
      await stage.remove(manager, workload.functionId);
    });
  });

  it('can’t be had where nothing serves them, and neither can what has some run', async () => {
    const { stage } = suite;
    const manager = suite.provider({ LAYERS_ADDR: '', LAYERS_URL: '' });
    await closing(manager, async () => {
      expect(manager.layers).toBeUndefined();
      expect(manager.capabilities).toMatchObject({
        layers: 'none',
        buildsNoLayers: expect.stringMatching('LAYERS_URL'),
      });
      const { reason } = await stage.ensure(manager, stage.workload(IMPORTING, { layer: await layerOf('none') }));
      expect(reason).toMatchObject({ code: 'rejected', message: expect.stringMatching('LAYERS_URL') });
    });
  });

  it('are built in a pod that knows nothing of the index’s login, and leaves nothing', async () => {
    const manager = withIndex();
    await closing(manager, async () => {
      index.hold();
      const building = build(manager, 'purepkg');
      await vi.waitFor(() => expect(index.asked.some((path) => path.includes('/files/'))).toBe(true), SLOW);
      const [pod] = await podsOfBuilds();
      expect(pod?.metadata?.labels).toMatchObject({ app: 'faas-builder' });
      expect(pod?.spec).toMatchObject({ automountServiceAccountToken: false, restartPolicy: 'Never' });
      expect(pod?.spec?.activeDeadlineSeconds).toBeGreaterThan(0);
      expect(JSON.stringify(pod)).not.toContain('pA55w0rd');
      expect(index.authorization).toBe(`Basic ${Buffer.from('reader:pA55w0rd').toString('base64')}`);
      index.letGo();
      const { lock, lines, archive } = await building;
      expect(lock).toMatch(/^purepkg==1\.0 .*--hash=sha256:/s);
      expect(lines.join('\n')).toMatch(/Packed \d+ files/);
      expect(archive.toString('latin1')).toContain('purepkg/__init__.py');
      expect(await podsOfBuilds()).toEqual([]);
    });
  });

  it('are not built any more once nobody waits for them', async () => {
    const manager = withIndex();
    await closing(manager, async () => {
      index.hold();
      const asked = index.asked.length;
      const leaving = new AbortController();
      const building = build(manager, 'purepkg', leaving.signal);
      building.catch(() => undefined);
      await vi.waitFor(
        () => expect(index.asked.slice(asked).some((path) => path.includes('/files/'))).toBe(true),
        SLOW,
      );
      leaving.abort(new Error('gone'));
      await expect(building).rejects.toThrow('gone');
      expect(await podsOfBuilds()).toEqual([]);
    });
  });

  it('are not built where the cluster refuses the pod, or has no image for it, and it says so', async () => {
    const { cluster } = suite;
    await cluster.refuse({ plural: 'pods' }, 'no builds on a Monday');
    const manager = withIndex();
    await closing(manager, async () => {
      await expect(build(manager, 'purepkg')).rejects.toMatchObject({
        fault: 'unavailable',
        message: expect.stringMatching(/refuses the pod that builds: .*no builds on a Monday/) as string,
      });
    });
    await cluster.admitAll();
    const without = withIndex({ BUILDER_IMAGE: 'no-such-builder:1' });
    await closing(without, async () => {
      await expect(build(without, 'purepkg')).rejects.toMatchObject({
        fault: 'unavailable',
        message: expect.stringMatching(/no-such-builder:1 \(BUILDER_IMAGE\) can't be had: /) as string,
      });
    });
    expect(await podsOfBuilds()).toEqual([]);
  });

  it('leave no pod behind when their manager is killed: the build ends, and another manager removes it', async () => {
    const { stage, cluster } = suite;
    const dying = withIndex();
    const next = withIndex();
    await closing(next, async () => {
      index.hold();
      const asked = index.asked.length;
      const building = build(dying, 'purepkg');
      building.catch(() => undefined);
      await vi.waitFor(
        () => expect(index.asked.slice(asked).some((path) => path.includes('/files/'))).toBe(true),
        SLOW,
      );
      // From here on it can't do anything in the cluster, as if it were dead.
      await cluster.refuse({ plural: 'pods', operation: 'DELETE' }, 'dead managers delete nothing');
      const [pod] = await podsOfBuilds();
      expect(await cluster.node.kill(pod?.metadata?.name ?? '')).toBe(1);
      await expect(building).rejects.toMatchObject({ fault: 'unavailable' });
      await dying.close();
      expect(await podsOfBuilds()).toHaveLength(1);
      await cluster.admitAll();
      await stage.until(
        'the pod is removed',
        async () => {
          await next.layers!.sweep(new Set(), stage.signal());
          return podsOfBuilds();
        },
        (pods) => pods.length === 0,
      );
    });
  });
});
