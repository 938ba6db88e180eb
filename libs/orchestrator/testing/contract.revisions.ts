import { expect, it } from 'vitest';
import type { Observed } from '../workload.js';
import { answering, NOT_LOADABLE, SLEEPY } from './contract.handlers.js';
import { replicaIds } from './contract.replicas.js';
import type { Stage } from './contract.stage.js';

export function revisionBehaviour(stage: () => Stage): void {
  it('has an endpoint that answers at every moment of a change of revision', async () => {
    const manager = await stage().manager();
    const former = stage().workload(answering('former'), { replicas: 2 });
    const before = await stage().settleReady(manager, former);
    const next = stage().revised(former, answering('next'));

    const seen: Observed[] = [];
    const answers = new Set<unknown>();
    const after = await stage().until(
      'the next revision alone answers',
      async () => {
        const observed = await stage().ensure(manager, next);
        seen.push(observed);
        for (const endpoint of observed.endpoints) answers.add((await stage().call(endpoint, 'x')).body);
        return observed;
      },
      (observed) =>
        observed.ready === 2 && !observed.endpoints.some(({ replica }) => replicaIds(before).includes(replica)),
    );
    for (const observed of seen) expect(observed.endpoints.length).toBeGreaterThan(0);
    expect([...answers].map((body) => (body as { result: string }).result)).toSatisfy((results: string[]) =>
      results.every((result) => result === 'former:x' || result === 'next:x'),
    );
    expect(after.endpoints).toHaveLength(2);
    for (const endpoint of after.endpoints) {
      expect((await stage().call(endpoint, 'x')).body).toEqual({ result: 'next:x' });
    }
    await Promise.all(before.endpoints.map((endpoint) => stage().untilGone(endpoint)));
  });

  it('lets a call of the former revision finish', async () => {
    const manager = await stage().manager();
    const former = stage().workload(SLEEPY);
    const before = await stage().settleReady(manager, former);
    const { answer } = await stage().startSleeping(before.endpoints[0], 4);
    const next = stage().revised(former, answering('next'));
    await stage().settle(
      manager,
      next,
      (seen) => seen.ready === 1 && seen.endpoints[0]?.replica !== before.endpoints[0]?.replica,
    );
    expect(await answer).toEqual({ status: 200, body: { result: 'slept' } });
    await stage().untilGone(before.endpoints[0]);
  });

  it('replaces replicas when only a limit changes', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'));
    const before = await stage().settleReady(manager, workload);
    const changed = { ...workload, limits: { ...workload.limits, concurrency: 3 } };
    const after = await stage().settle(
      manager,
      changed,
      // Both may be endpoints until the former one leaves.
      (seen) =>
        seen.ready === 1 && seen.endpoints.length === 1 && replicaIds(seen).join() !== replicaIds(before).join(),
    );
    expect(after.endpoints).toHaveLength(1);
  });

  it('keeps the former revision answering while the next one cannot be loaded, and goes back without a restart', async () => {
    const manager = await stage().manager();
    const former = stage().workload(answering('former'));
    const before = await stage().settleReady(manager, former);
    const broken = stage().revised(former, NOT_LOADABLE);
    const seen = await stage().settle(manager, broken, ({ reason }) => reason?.code === 'handler_not_loadable');
    expect(seen.ready).toBe(0);
    expect(replicaIds(seen)).toEqual(replicaIds(before));
    expect((await stage().call(seen.endpoints[0], 'x')).body).toEqual({ result: 'former:x' });

    const back = await stage().ensure(manager, former);
    expect(replicaIds(back)).toEqual(replicaIds(before));
    expect(back.reason).toBeUndefined();
  });
}
