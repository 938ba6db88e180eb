import { describe, expect, it, vi } from 'vitest';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { answering } from '#libs/orchestrator/testing/contract.handlers.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import { ProviderSuite } from './support/provider.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

const FOREVER = 1_000_000;

describe.skipIf(noCluster)('an API server that throttles [kubernetes]', () => {
  const suite = ProviderSuite.on();

  it('is asked again no sooner than it says, and then has its answer', async () => {
    const { stage, cluster } = suite;
    const { proxy } = cluster;
    const manager = await stage.manager();
    const began = performance.now();
    proxy.throttle(2, 1);
    await manager.ping(stage.signal());
    expect(performance.now() - began).toBeGreaterThan(1_990);
  });

  it('still gets a function from upload to removal', async () => {
    const { stage, cluster } = suite;
    const { proxy } = cluster;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    proxy.throttle(4, 1);
    const seen = await settledAtLast(manager, workload);
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
    proxy.throttle(4, 1);
    await stage.remove(manager, workload.functionId);
    expect(await cluster.leftovers()).toEqual([]);
  });

  it('that never relents is unavailable', async () => {
    const { stage, cluster } = suite;
    const { proxy } = cluster;
    const manager = await stage.manager();
    proxy.throttle(FOREVER, 1);
    await expect(manager.ping(stage.signal())).rejects.toBeInstanceOf(OrchestratorUnavailable);
    proxy.throttle(0, 1);
    await manager.ping(stage.signal());
  });

  /** Informers that were throttled begin anew by themselves, and until then the provider says that it may be behind. */
  async function settledAtLast(manager: Awaited<ReturnType<typeof suite.stage.manager>>, workload: Workload) {
    return suite.stage.until(
      'it is ready',
      () =>
        suite.stage.ensure(manager, workload).catch((error: unknown) => {
          if (error instanceof OrchestratorUnavailable) return { endpoints: [] };
          throw error;
        }),
      ({ endpoints }) => endpoints.length === 1,
    );
  }
});

describe.skipIf(noCluster)('an API server that goes away [kubernetes]', () => {
  const suite = ProviderSuite.on();

  it('makes everything unavailable but calls, and all heals when it is back', async () => {
    const { stage, cluster } = suite;
    const { proxy } = cluster;
    const manager = await stage.manager();
    const workload = stage.workload(answering('one'));
    const before = await stage.settleReady(manager, workload);
    await proxy.cut();
    const attempts = [
      () => stage.ensure(manager, stage.workload(answering('two'))),
      () => stage.remove(manager, workload.functionId),
      () => stage.list(manager),
      () => manager.ping(stage.signal()),
    ];
    for (const attempt of attempts) await expect(attempt()).rejects.toBeInstanceOf(OrchestratorUnavailable);
    expect((await stage.call(before.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
    expect(await manager.confirms(before.endpoints[0]!, stage.signal())).toBe(true);
    await proxy.mend();
    const after = await stage.until(
      'the provider sees the cluster again',
      () => stage.ensure(manager, workload).catch(() => undefined),
      (seen) => seen !== undefined,
    );
    expect(after?.endpoints).toEqual(before.endpoints);
    await stage.remove(manager, workload.functionId);
    expect(await cluster.leftovers()).toEqual([]);
  });

  it('answers late: everything takes its time, and works', async () => {
    const { stage, cluster } = suite;
    const { proxy } = cluster;
    proxy.latencyMs = 300;
    const manager = await stage.manager();
    const workload = stage.workload(answering('late'));
    const seen = await stage.settleReady(manager, workload);
    proxy.latencyMs = 0;
    expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'late:x' });
  });
});

describe.skipIf(noCluster)('a token that is revoked [kubernetes]', () => {
  const suite = ProviderSuite.on();

  it('is told as such, ends no call, and another one goes on where it ended', async () => {
    const { stage, cluster } = suite;
    const { proxy } = cluster;
    const workload = stage.workload(answering('one'));
    const manager = suite.provider({});
    const before = await stage.settleReady(manager, workload);
    proxy.revoke();
    await expect(manager.ping(stage.signal())).rejects.toThrow(
      /refuses our credentials: they are wrong or have expired/,
    );
    proxy.dropWatches();
    await vi.waitFor(
      () => expect(stage.ensure(manager, workload)).rejects.toBeInstanceOf(OrchestratorUnavailable),
      20_000,
    );
    expect((await stage.call(before.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
    await manager.close();

    const admin = cluster.writeKubeconfig(cluster.admin.exportConfig());
    const next = suite.provider({ KUBECONFIG: admin });
    expect((await stage.settleReady(next, workload)).endpoints).toEqual(before.endpoints);
    await stage.remove(next, workload.functionId);
    await next.close();
  });
});
