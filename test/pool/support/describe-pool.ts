import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { answering, NOT_LOADABLE, NOT_LOADABLE_LINE } from '#libs/orchestrator/testing/contract.handlers.js';
import { NotSent } from '#libs/orchestrator/testing/call.js';
import { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import type { FunctionId, Workload } from '#libs/orchestrator/workload.js';
import type { PoolSite } from './pool-site.js';
import { Victim } from './victim-process.js';

const STORM = 10;
const DEATHS = 5;
/** From before anything is taken until well after the function serves, on a machine that is not too busy. */
const LATEST_DEATH_MS = 60;
const MINUTE = 60_000;

type Manager = Awaited<ReturnType<Stage['manager']>>;

/** What the contract doesn't ask: where replicas come from, and that nothing of the pool is lost or used twice. */
export function describePool(name: string, makeSite: () => PoolSite): void {
  describe(`warm pool: ${name}`, { timeout: 10 * MINUTE }, () => {
    let site: PoolSite;
    let stage: Stage;
    beforeAll(() => {
      site = makeSite();
    });
    afterAll(() => site.harness.close());
    beforeEach(() => {
      stage = new Stage(site.harness, { deadlineMs: 5 * MINUTE });
    });
    afterEach(() => stage.close());

    const answersOf = async (
      workload: Workload,
      word: string,
      manager: Manager,
      unless: (error: unknown) => undefined | Promise<undefined> = rethrown,
    ) => {
      // As the reconcile loop does: an engine that is too busy to answer is asked again.
      const { endpoint, answer } = await stage.until(
        'the function answers',
        async () => {
          const seen = await stage.ensure(manager, workload).catch(unlessUnavailable);
          if (seen?.ready !== 1 || seen.replicas !== 1) return {};
          expect(seen.endpoints).toHaveLength(1);
          const [endpoint] = seen.endpoints;
          return { endpoint, answer: await stage.call(endpoint, 'x').catch(unless) };
        },
        ({ answer }) => answer !== undefined,
      );
      expect(answer?.body).toEqual({ result: `${word}:x` });
      return endpoint?.replica ?? '';
    };

    /** Asked again, as the router does. */
    const unlessNotSent = async (error: unknown, manager: Manager, functionId: FunctionId): Promise<undefined> => {
      if (!(error instanceof NotSent)) throw error;
      const said = (await stage.logOf(manager, functionId, 10)).map(({ text }) => text);
      const there = (await site.remains(stage.owner)).filter((one) => one.includes(functionId));
      const facts = JSON.stringify({ functionId, cause: `${error.message}: ${String(error.cause)}`, there, said });
      process.stdout.write(`a replica that was ready was not reached: ${facts}\n`);
    };

    it('makes the first replica of a worker that waited, and replaces it', async () => {
      const manager = await stage.manager();
      const before = await site.waiting(stage.owner);
      expect(before).toHaveLength(2);
      const workload = stage.workload(answering('one'));
      expect(await stage.ensure(manager, workload)).toMatchObject({ replicas: 1 });
      const seen = await stage.settleReady(manager, workload);
      expect(before).toContain(site.memberOf(seen.endpoints[0]?.replica ?? ''));
      expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
      await stage.until(
        'the pool is full again',
        () => site.waiting(stage.owner),
        (waiting) => waiting.length === 2,
      );
      expect(await stage.list(manager)).toEqual([workload.functionId]);
    });

    it('makes the first replica within one step where there was none', async () => {
      const manager = await stage.manager();
      const workload = stage.workload(answering('one'), { isFresh: true });
      const seen = await stage.ensure(manager, workload);
      expect(seen).toMatchObject({ replicas: 1, ready: 1 });
      expect(seen.endpoints).toHaveLength(1);
      expect(seen.endpoints[0]?.guard).toBe(seen.endpoints[0]?.address.kind === 'tcp' ? 'worker' : undefined);
      expect((await stage.call(seen.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
      const { isFresh: _, ...later } = workload;
      expect(await stage.ensure(manager, later)).toEqual(seen);
    });

    it('keeps the replica that there is though it was told that there is none', async () => {
      const workload = stage.workload(answering('one'));
      const former = await stage.settleReady(await stage.manager(), workload);
      await stage.until(
        'the pool is full again',
        () => site.waiting(stage.owner),
        (waiting) => waiting.length === 2,
      );
      const before = (await site.remains(stage.owner)).length - 2;
      const manager = await stage.manager();
      for (const told of [{ ...workload, isFresh: true }, workload]) {
        const seen = await stage.settleReady(manager, told);
        expect(seen.endpoints).toEqual(former.endpoints);
      }
      expect(await stage.list(manager)).toEqual([workload.functionId]);
      await stage.until(
        'the other workers are all of the pool',
        async () => (await site.remains(stage.owner)).length - (await site.waiting(stage.owner)).length,
        (serving) => serving === before,
      );
    });

    it('tells why a handler can’t be loaded as a cold start does', async () => {
      const manager = await stage.manager();
      const workload = stage.workload(NOT_LOADABLE);
      const { reason } = await stage.settle(manager, workload, (seen) => seen.reason?.terminal === true);
      expect(reason).toMatchObject({ code: 'handler_not_loadable', line: NOT_LOADABLE_LINE });
      expect(reason?.detail).toContain('function/handler.py');
      expect(reason?.detail).toContain('REGION = SETTINGS["region"]');
    });

    it('uses none twice in a storm of deployments, and starts cold what it has no worker for', async () => {
      const manager = await stage.manager();
      const workloads = Array.from({ length: STORM }, (_, index) => stage.workload(answering(`word${index}`)));
      const replicas = await Promise.all(
        workloads.map((workload, index) =>
          answersOf(workload, `word${index}`, manager, (error) => unlessNotSent(error, manager, workload.functionId)),
        ),
      );
      expect(new Set(replicas).size).toBe(STORM);
      const members = replicas.map((replica) => site.memberOf(replica));
      expect((await stage.list(manager)).toSorted()).toEqual(workloads.map(({ functionId }) => functionId).toSorted());
      // None of those in the pool now serves anybody.
      for (const member of await site.waiting(stage.owner)) expect(members).not.toContain(member);
    });

    it('starts cold when its workers have died', async () => {
      const manager = await stage.manager();
      await site.killWaiting(stage.owner);
      await answersOf(stage.workload(answering('cold')), 'cold', manager);
    });

    it('leaves nothing when its manager ends', async () => {
      const manager = await stage.manager();
      expect(await site.waiting(stage.owner)).toHaveLength(2);
      await manager.close();
      expect(await site.remains(stage.owner)).toEqual([]);
    });

    it('leaves nothing of what was on its way when its manager ends', async () => {
      const manager = await stage.manager();
      const workload = stage.workload(answering('one'), { replicas: 2 });
      await stage.settleReady(manager, workload);
      await stage.until(
        'the next are on their way',
        async () => (await site.remains(stage.owner)).filter((one) => one.includes('pool')).length,
        (count) => count > 0,
      );
      await manager.close();
      expect((await site.remains(stage.owner)).filter((one) => one.includes('pool'))).toEqual([]);
    });

    it('serves every function once whenever a manager is killed, and loses no worker', async () => {
      const workloads: Workload[] = [];
      let unfinished = 0;
      for (let death = 0; death < DEATHS; death += 1) {
        const victim = await Victim.start(site, stage.owner);
        const workload = stage.workload(answering(`word${death}`));
        workloads.push(workload);
        const fresh = { ...workload, isFresh: death % 2 === 0 };
        const done = await victim.killDuring(fresh, (LATEST_DEATH_MS * death) / DEATHS);
        unfinished += Number(!done);
      }
      expect(unfinished).toBeGreaterThan(0);
      const manager = await stage.manager();
      const replicas = await Promise.all(
        workloads.map((workload, index) => answersOf(workload, `word${index}`, manager)),
      );
      expect(new Set(replicas).size).toBe(DEATHS);
      for (const { functionId } of workloads) await stage.remove(manager, functionId);
      await stage.until(
        'nothing is left but the workers of the pool that there is',
        async () => {
          await stage.list(manager);
          const waiting = await site.waiting(stage.owner);
          return { waiting: waiting.length, remains: (await site.remains(stage.owner)).length };
        },
        ({ waiting, remains }) => waiting === 2 && remains === 2,
      );
    });
  });
}

function rethrown(error: unknown): never {
  throw error;
}

function unlessUnavailable(error: unknown): undefined {
  if (!(error instanceof OrchestratorUnavailable)) throw error;
}
