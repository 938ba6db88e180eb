import { describe, expect, it } from 'vitest';
import type { PoolConfig } from '#libs/config/config.js';
import { answering } from '#libs/orchestrator/testing/contract.handlers.js';
import type { Observed, Workload } from '#libs/orchestrator/workload.js';
import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';
import { podOf } from '#libs/orchestrator-kubernetes/replica.js';
import { Victim } from '../pool/support/victim-process.js';
import { PoolView } from './support/pool-pods.js';
import { ProviderSuite } from './support/provider.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

const POOL: PoolConfig = { size: 2, memoryMiB: 256, cpuMillis: 500, pids: 64 };
const DEATHS = 4;
/** From before anything is taken until well after the function serves. */
const LATEST_DEATH_MS = 90;
/** A generic worker's lease, or the time after which one that had its function but not its labels is a stray. */
const SWEPT_MS = 150_000;

describe.skipIf(noCluster)(
  'managers that are killed while they use the pool [kubernetes]',
  { timeout: 400_000 },
  () => {
    const suite = ProviderSuite.on({}, { HPA_MAX_REPLICAS: '1' }, { ...POOL, size: 0 }, SWEPT_MS);
    const pool = () => new PoolView(suite.cluster, suite.stage.owner);
    const victim = () =>
      Victim.start(
        { victim: { engine: 'kubernetes', config: suite.cluster.configOf({ HPA_MAX_REPLICAS: '1' }), pool: POOL } },
        suite.stage.owner,
      );
    const ownPod = ({ endpoints }: Observed) => podOf(endpoints[0]?.replica ?? '').startsWith('faas-worker-');

    async function nothingIsLeft(manager: Awaited<ReturnType<typeof suite.stage.manager>>): Promise<void> {
      await suite.stage.until(
        'nothing of the pool is left',
        async () => {
          await suite.stage.list(manager);
          return (await pool().all()).map(({ metadata }) => metadata?.name);
        },
        (names) => names.length === 0,
      );
    }

    it('leave no pod behind between its claim and its function, nor those that only wait', async () => {
      const { stage, cluster } = suite;
      const dying = await victim();
      const [claimed = ''] = await pool().filled(2);
      const workload = stage.workload(answering('one'));
      const labels = { [LABEL.functionId]: workload.functionId, [LABEL.revision]: '1', [LABEL.spec]: 'of-this' };
      dying.pause();
      await cluster.merge(POD, claimed, { metadata: { labels } });
      await dying.kill();

      const manager = await stage.manager();
      // Found by whoever looks for what belongs to no function, and in the way of none.
      expect(await stage.list(manager)).toEqual([workload.functionId]);
      const seen = await stage.settle(manager, workload, ({ ready }) => ready === 1);
      expect(seen.endpoints.map(({ replica }) => podOf(replica))).not.toContain(claimed);
      expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
      expect(await pool().of(workload.functionId)).toEqual([]);
      await nothingIsLeft(manager);
    });

    it('lose no function, whenever it happens, and no pod serves two', async () => {
      const { stage } = suite;
      const workloads: Workload[] = [];
      let unfinished = 0;
      for (let death = 0; death < DEATHS; death += 1) {
        const dying = await victim();
        const workload = stage.workload(answering(`word${death}`));
        workloads.push(workload);
        unfinished += Number(!(await dying.killDuring(workload, (LATEST_DEATH_MS * death) / DEATHS)));
      }
      expect(unfinished).toBeGreaterThan(0);
      const manager = await stage.manager();
      const serve = async (workload: Workload, index: number) => {
        const first = await stage.settle(manager, workload, ({ ready }) => ready === 1);
        expect((await stage.call(first.endpoints[0], 'x')).body).toEqual({ result: `word${index}:x` });
        const own = await stage.settle(manager, workload, (seen) => seen.ready === 1 && ownPod(seen));
        expect((await stage.call(own.endpoints[0], 'x')).body).toEqual({ result: `word${index}:x` });
      };
      await Promise.all(workloads.map(serve));
      for (const { functionId } of workloads) await stage.remove(manager, functionId);
      await nothingIsLeft(manager);
      // The cluster may make what a manager had asked for before it was killed.
      const left = async () => (await stage.list(manager), suite.cluster.leftovers());
      await stage.until('nothing is left', left, (names) => names.length === 0);
    });
  },
);
