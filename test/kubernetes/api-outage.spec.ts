import { setTimeout as delay } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { DEPLOYMENT } from '#libs/orchestrator-kubernetes/kinds.js';
import type { FunctionDetailDto } from '../client/index.js';
import { ON_CLUSTER } from '../support/engine.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';
import { ApiProxy } from './support/api-proxy.js';
import { Traffic } from './support/traffic.js';
import { eitherCluster } from './support/either-cluster.js';
import type { KubernetesRoom } from './support/kubernetes-room.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = !ON_CLUSTER && whyNoControlPlane() !== undefined;

/** A minute costs a real cluster's suite little; here it tells no more than seconds do. */
const OUTAGE_MS = ON_CLUSTER ? 60_000 : 3_000;
const HEALED = { timeout: 60_000, interval: 250 };

describe.skipIf(noCluster)('an API server that is away [kubernetes]', () => {
  let room: KubernetesRoom;
  let proxy: ApiProxy;
  let manager: TestManager;
  const stage = Stage.on(eitherCluster((opened) => (room = opened)));
  const send = (code: string) => manager.send('/functions', { method: 'POST', ...upload(code) });
  const detail = async (id: string) => (await manager.send(`/functions/${id}`)).json() as FunctionDetailDto;
  const settled = (id: string) =>
    vi.waitFor(async () => {
      const { status, conditions } = await detail(id);
      expect([status, ...conditions.map((condition) => condition.status)]).toEqual(['running', true, true]);
    }, HEALED);

  beforeAll(async () => {
    // The manager that the stage starts by itself would go on acting in this one's place.
    await stage.manager.stop();
    proxy = await ApiProxy.to(room.cluster.admin.getCurrentCluster()!);
    const KUBECONFIG = await room.kubeconfig(proxy.through(await room.cluster.managerConfig()));
    manager = await stage.start({ KUBECONFIG });
  });
  afterAll(async () => {
    await manager?.stop();
    await proxy?.cut();
  });

  it('for a while: calls go on, changes wait or are refused, and all heals', { timeout: 300_000 }, async () => {
    const kept = (await manager.add(ECHO)).id;
    const leaving = (await manager.add(ECHO)).id;
    const hurt = (await manager.add(ECHO)).id;
    const traffic = new Traffic(2, async () => {
      await delay(20);
      return manager.call(kept, 'x');
    });
    await traffic.more(5);
    await proxy.cut();
    const back = Date.now() + OUTAGE_MS;
    await room.cluster.delete(DEPLOYMENT, `faas-worker-${hurt}`);

    const refused = await send(ECHO);
    expectProblem(refused, 503, 'orchestrator_unavailable');
    const removal = await manager.remove(leaving);
    expect(removal.status).toBe(202);
    expect(removal.json()).toMatchObject({ id: leaving, status: 'deleting' });
    expectProblem(await manager.call(leaving), 409, 'function_not_runnable');
    const ready = await manager.send('/readyz');
    expect(ready.status).toBe(503);
    expect(ready.json()).toMatchObject({ error: { engine: { status: 'down', engine: 'kubernetes' } } });
    expect((await manager.send('/livez')).status).toBe(200);

    await delay(Math.max(0, back - Date.now()));
    await traffic.more(5);
    await proxy.mend();
    await vi.waitFor(async () => {
      const listed = (await manager.send('/functions')).json() as { id: string }[];
      expect(listed.map(({ id }) => id)).toEqual([kept, hurt]);
      expect(await room.cluster.leftovers([kept, hurt])).toEqual([]);
    }, HEALED);
    await settled(kept);
    await settled(hurt);
    expect((await manager.call(hurt, 'healed')).text).toBe('{"result":"healed"}');
    expect((await manager.send('/readyz')).status).toBe(200);
    const added = await manager.add(ECHO);
    expect((await manager.call(added.id, 'new')).text).toBe('{"result":"new"}');
    await traffic.more(5);
    expect(await traffic.stop()).toEqual([]);
    for (const id of [kept, hurt, added.id]) expect((await manager.remove(id)).status).toBe(204);
  });

  // Half a minute of waiting for time limits: a real cluster is where connections are forgotten.
  if (!ON_CLUSTER) return;
  it(
    'in silence: calls go on, and an upload is told, though no connection ever ends',
    { timeout: 300_000 },
    async () => {
      const { id } = await manager.add(ECHO);
      const traffic = new Traffic(1, async () => {
        await delay(20);
        return manager.call(id, 'x');
      });
      await traffic.more(5);
      proxy.hush();
      expectProblem(await send(ECHO), 503, 'orchestrator_unavailable');
      expect((await manager.send('/readyz')).status).toBe(503);
      await proxy.cut();
      await proxy.mend();
      await vi.waitFor(async () => {
        expect(((await manager.send('/functions')).json() as unknown[]).length).toBe(1);
        expect(await room.cluster.leftovers([id])).toEqual([]);
      }, HEALED);
      await settled(id);
      expect(await traffic.stop()).toEqual([]);
      expect((await manager.remove(id)).status).toBe(204);
    },
  );
});

describe.skipIf(noCluster)('a way to the cluster that is wrong [kubernetes]', () => {
  let room: KubernetesRoom;
  let manager: TestManager | undefined;
  afterEach(() => manager?.stop());
  const stage = Stage.on(eitherCluster((opened) => (room = opened)));

  async function expectUploadRefused(env: Record<string, string>, status: number, code: string, says: RegExp) {
    await stage.manager.stop();
    manager = await stage.start(env);
    const began = performance.now();
    const answer = await manager.send('/functions', { method: 'POST', ...upload(ECHO) });
    expect(performance.now() - began).toBeLessThan(20_000);
    expect(expectProblem(answer, status, code).detail).toMatch(says);
    return manager.send('/readyz');
  }

  it('because the token is wrong or has expired is told to uploads and by /readyz', async () => {
    const config = new KubeConfig();
    const cluster = room.cluster.admin.getCurrentCluster()!;
    config.loadFromClusterAndUser(cluster, { name: 'manager', token: 'expired' });
    const KUBECONFIG = await room.kubeconfig(config.exportConfig());
    const says = /refuses our credentials: they are wrong or have expired/;
    const ready = await expectUploadRefused({ KUBECONFIG }, 503, 'orchestrator_unavailable', says);
    expect(ready.status).toBe(503);
  });

  it('because the namespace is another than the one with our rights is told to uploads and by /readyz', async () => {
    const env = { KUBERNETES_NAMESPACE: 'default' };
    const ready = await expectUploadRefused(env, 503, 'orchestrator_unavailable', /forbidden/);
    expect(ready.status).toBe(503);
  });

  it('because the namespace is missing is told to uploads', async () => {
    const KUBECONFIG = await room.kubeconfig(room.cluster.admin.exportConfig());
    const env = { KUBECONFIG, KUBERNETES_NAMESPACE: `${room.cluster.namespace}-not` };
    await expectUploadRefused(env, 503, 'function_not_ready', /namespaces "[\w-]+-not" not found/);
  });

  it('because the namespace is being removed is told to uploads', async () => {
    const name = `${room.cluster.namespace}-going`;
    const { core } = room.cluster;
    const held = { metadata: { name: 'held', finalizers: ['team.example/held'] } };
    await core.createNamespace({ body: { metadata: { name } } });
    await core.createNamespacedConfigMap({ namespace: name, body: held });
    await core.deleteNamespace({ name });
    try {
      const KUBECONFIG = await room.kubeconfig(room.cluster.admin.exportConfig());
      const env = { KUBECONFIG, KUBERNETES_NAMESPACE: name };
      await expectUploadRefused(env, 503, 'function_not_ready', /being terminated/);
    } finally {
      await core.replaceNamespacedConfigMap({
        namespace: name,
        name: 'held',
        body: { metadata: { name: 'held', finalizers: [] } },
      });
    }
  });

  it('because the kubeconfig is not there or unusable is told at boot', async () => {
    const boot = (KUBECONFIG: string) =>
      TestManager.start({ ...room.env, DATABASE_URL: stage.databaseUrl, KUBECONFIG });
    await expect(boot('/nowhere/kubeconfig')).rejects.toThrow(/The kubeconfig \/nowhere\/kubeconfig can't be read/);
    await expect(boot(await room.kubeconfig('{}'))).rejects.toThrow(/has no usable current context/);
  });
});
