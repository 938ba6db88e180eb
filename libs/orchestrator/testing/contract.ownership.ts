import { expect, it } from 'vitest';
import { answering, NOT_LOADABLE } from './contract.handlers.js';
import { replicaIds } from './contract.replicas.js';
import type { Stage } from './contract.stage.js';

export function ownershipBehaviour(stage: () => Stage): void {
  it('lists every function that has something on the engine, also one whose replicas have ended', async () => {
    const manager = await stage().manager();
    expect(await stage().list(manager)).toEqual([]);
    const running = stage().workload(answering('one'));
    const broken = stage().workload(NOT_LOADABLE);
    await stage().settleReady(manager, running);
    await stage().settle(manager, broken, ({ reason }) => reason?.terminal === true);
    const ids = [running.functionId, broken.functionId].toSorted();
    expect((await stage().list(manager)).toSorted()).toEqual(ids);
    const successor = await stage().restart(manager);
    expect((await stage().list(successor)).toSorted()).toEqual(ids);
  });

  it('ends with exactly the wanted replicas when two managers ensure the same function at once', async () => {
    const [first, second] = [await stage().manager(), await stage().manager()];
    const workload = stage().workload(answering('one'), { replicas: 2 });
    const managers = stage().harness.needsLease === true ? [first, first] : [first, second];
    await Promise.all([...managers, ...managers].map((manager) => stage().ensure(manager, workload)));
    const a = await stage().settleReady(first, workload);
    const b = await stage().settleReady(second, workload);
    expect(replicaIds(b)).toEqual(replicaIds(a));
    expect(new Set(replicaIds(a)).size).toBe(2);
    expect(replicaIds(await stage().ensure(first, workload))).toEqual(replicaIds(a));

    await Promise.all(managers.map((manager) => stage().remove(manager, workload.functionId)));
    expect(await stage().list(first)).toEqual([]);
    expect(await stage().list(second)).toEqual([]);
  });

  it('neither shows nor touches what belongs to another owner', async () => {
    const ours = await stage().manager();
    const theirs = await stage().manager(`${stage().owner}-other`);
    const workload = stage().workload(answering('ours'));
    const foreign = stage().workload(answering('theirs'));
    const seen = await stage().settleReady(ours, workload);
    await stage().settleReady(theirs, foreign);
    expect(await stage().list(ours)).toEqual([workload.functionId]);
    expect(await stage().list(theirs)).toEqual([foreign.functionId]);

    await stage().remove(theirs, workload.functionId);
    expect(replicaIds(await stage().ensure(ours, workload))).toEqual(replicaIds(seen));
    expect((await stage().call(seen.endpoints[0], 'x')).body).toEqual({ result: 'ours:x' });
  });
}
