import { expect, it } from 'vitest';
import type { Observed, WorkloadFault } from '../workload.js';
import { answering, NOT_LOADABLE, NOT_LOADABLE_LINE, NOT_LOADABLE_TYPE } from './contract.handlers.js';
import { replicaIds } from './contract.replicas.js';
import type { Stage } from './contract.stage.js';

/** How far an engine's clock may be from this process's, in milliseconds. */
const CLOCK_SKEW_MS = 2_000;

export function faultBehaviour(stage: () => Stage): void {
  it('replaces a replica that was killed, says so, and tells why', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'));
    const watching = stage().watch(manager);
    const before = await stage().settleReady(manager, workload);
    const [killed] = replicaIds(before);
    if (killed === undefined) throw new Error('There is no replica to kill.');
    const killedAt = Date.now();
    const hint = watching.hint(workload.functionId);
    await stage().harness.kill(workload.functionId, killed);
    await hint;

    const reasons: WorkloadFault[] = [];
    const after = await stage().settle(manager, workload, (seen) => {
      if (seen.reason !== undefined) reasons.push(seen.reason);
      return seen.ready === 1 && seen.endpoints[0]?.replica !== killed;
    });
    expect((await stage().call(after.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
    const told = reasons.find(({ code }) => code === 'worker_crashed');
    expect(told).toMatchObject({ terminal: false });
    expect(told?.message).not.toBe('');
    expect(told?.at.getTime()).toBeGreaterThan(killedAt - CLOCK_SKEW_MS);
    const crashes = reasons.filter(({ code }) => code === 'worker_crashed').map(({ at }) => at.getTime());
    expect(new Set(crashes).size).toBe(1);
  });

  it('replaces only the replica that ended', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'), { replicas: 2 });
    const [killed, other] = replicaIds(await stage().settleReady(manager, workload));
    if (killed === undefined) throw new Error('There is no replica to kill.');
    await stage().harness.kill(workload.functionId, killed);
    const after = await stage().settle(
      manager,
      workload,
      (seen) => seen.ready === 2 && !replicaIds(seen).includes(killed),
    );
    expect(replicaIds(after)).toContain(other);
  });

  it('leaves a replica that ended unreplaced until it may be, keeping the others', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'), { replicas: 2 });
    const [killed, other] = replicaIds(await stage().settleReady(manager, workload));
    if (killed === undefined) throw new Error('There is no replica to kill.');
    await stage().harness.kill(workload.functionId, killed);
    if (stage().harness.restartsByItself === true) {
      const after = await stage().settle(
        manager,
        workload,
        (seen) => seen.ready === 2 && !replicaIds(seen).includes(killed),
      );
      expect(replicaIds(after)).toContain(other);
      return;
    }
    const backingOff = { ...workload, replaceEndedFrom: new Date(Date.now() + 3_600_000) };
    await stage().settle(manager, backingOff, ({ reason }) => reason?.code === 'worker_crashed');
    for (let round = 0; round < 3; round += 1) {
      const seen = await stage().ensure(manager, backingOff);
      expect(seen).toMatchObject({ replicas: 1, ready: 1, reason: { code: 'worker_crashed' } });
      expect(replicaIds(seen)).toEqual([other]);
    }
    const after = await stage().settleReady(manager, { ...workload, replaceEndedFrom: new Date(Date.now() - 1) });
    expect(replicaIds(after)).toContain(other);
    expect(replicaIds(after)).not.toContain(killed);
  });

  it('replaces what ended while no manager ran', async () => {
    const former = await stage().manager();
    const workload = stage().workload(answering('one'));
    const [killed] = replicaIds(await stage().settleReady(former, workload));
    if (killed === undefined) throw new Error('There is no replica to kill.');
    const successor = await stage().restart(former);
    await stage().harness.kill(workload.functionId, killed);
    const after = await stage().settle(
      successor,
      workload,
      (seen) => seen.ready === 1 && seen.endpoints[0]?.replica !== killed,
    );
    expect((await stage().call(after.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
  });

  it('tells why a handler cannot be loaded, for good, and does not try it over and over', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(NOT_LOADABLE);
    const watching = stage().watch(manager);
    const hint = watching.hint(workload.functionId);
    const isTold = (seen: Observed) => seen.reason?.code === 'handler_not_loadable';
    if (!isTold(await stage().ensure(manager, workload))) await hint;
    const { reason } = await stage().settle(manager, workload, isTold);
    expect(reason).toMatchObject({ terminal: true, line: NOT_LOADABLE_LINE });
    expect(reason?.message).toContain(NOT_LOADABLE_TYPE);
    expect(reason?.detail).toContain('Traceback');

    for (let round = 0; round < 3; round += 1) {
      const again = await stage().ensure(manager, workload);
      expect(again).toMatchObject({ ready: 0, endpoints: [] });
      expect(again.reason).toEqual(reason);
    }
    const successor = await stage().restart(manager);
    expect((await stage().ensure(successor, workload)).reason).toEqual(reason);
  });

  it('tries a revision again that could not be loaded, when it is wanted once more after another one', async () => {
    const manager = await stage().manager();
    const broken = stage().workload(NOT_LOADABLE);
    const { reason } = await stage().settle(manager, broken, (seen) => seen.reason?.terminal === true);
    await stage().settleReady(manager, stage().revised(broken, answering('other')));
    await stage().settle(
      manager,
      { ...broken, formerRevision: undefined },
      (seen) => seen.reason?.terminal === true && seen.reason.at.getTime() > (reason?.at.getTime() ?? Infinity),
    );
  });

  it('goes on trying a handler that can’t be loaded and has served before', async () => {
    const manager = await stage().manager();
    const workload = { ...stage().workload(NOT_LOADABLE), hasServed: true };
    const told = new Map<number, WorkloadFault>();
    await stage().settle(manager, workload, ({ reason }) => {
      if (reason?.code === 'handler_not_loadable') told.set(reason.at.getTime(), reason);
      return told.size >= 2;
    });
    for (const reason of told.values()) expect(reason).toMatchObject({ terminal: false, line: NOT_LOADABLE_LINE });
  });

  it('runs the next revision of a handler that could not be loaded', async () => {
    const manager = await stage().manager();
    const broken = stage().workload(NOT_LOADABLE);
    await stage().settle(manager, broken, ({ reason }) => reason?.terminal === true);
    const repaired = stage().revised(broken, answering('repaired'));
    const seen = await stage().settleReady(manager, repaired);
    expect(seen.reason).toBeUndefined();
    expect((await stage().call(seen.endpoints[0], 'x')).body).toEqual({ result: 'repaired:x' });
  });
}
