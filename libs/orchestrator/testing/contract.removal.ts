import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Endpoint } from '../workload.js';
import { answering, NOT_LOADABLE, SLEEPY } from './contract.handlers.js';
import type { Stage } from './contract.stage.js';

export function removalBehaviour(stage: () => Stage): void {
  it('removes everything, also when asked twice or for something unknown', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'), { replicas: 2 });
    const seen = await stage().settleReady(manager, workload);
    await stage().remove(manager, workload.functionId);
    expect(await stage().list(manager)).toEqual([]);
    for (const endpoint of seen.endpoints) await expect(stage().call(endpoint, 'x')).rejects.toThrow();

    await stage().remove(manager, workload.functionId);
    await stage().remove(manager, stage().workload(answering('one')).functionId);
  });

  it('removes a function of which no replica runs', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(NOT_LOADABLE);
    await stage().settle(manager, workload, ({ reason }) => reason?.terminal === true);
    await stage().remove(manager, workload.functionId);
    expect(await stage().list(manager)).toEqual([]);
  });

  it('lets a call in flight finish before it removes the replica, which it confirms until then', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(SLEEPY);
    const seen = await stage().settleReady(manager, workload);
    const [endpoint] = seen.endpoints as [Endpoint];
    const { answer } = await stage().startSleeping(endpoint, 1.5);
    let finished = false;
    const noted = answer.then(
      () => (finished = true),
      () => (finished = true),
    );
    const confirmed: boolean[] = [];
    const asking = (async () => {
      // oxlint-disable-next-line no-unmodified-loop-condition -- set while it waits
      while (!finished) {
        const confirms = await manager.confirms(endpoint, stage().signal());
        if (!finished) confirmed.push(confirms);
        await delay(20);
      }
    })();
    await stage().remove(manager, workload.functionId, 15_000);
    expect(await answer).toEqual({ status: 200, body: { result: 'slept' } });
    expect(finished).toBe(true);
    await Promise.all([noted, asking]);
    expect(new Set(confirmed)).toEqual(new Set([true]));
    expect(await stage().list(manager)).toEqual([]);
  });

  it('cuts a call in flight when the grace is over', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(SLEEPY);
    const seen = await stage().settleReady(manager, workload);
    const { answer } = await stage().startSleeping(seen.endpoints[0], 600);
    await stage().remove(manager, workload.functionId, 500);
    await expect(
      answer.then(({ status }) => (status === 200 ? 'answered' : Promise.reject(new Error('cut')))),
    ).rejects.toThrow();
    expect(await stage().list(manager)).toEqual([]);
  });

  it('stops waiting for calls when the signal aborts, and finishes when asked again', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(SLEEPY);
    const seen = await stage().settleReady(manager, workload);
    await stage().startSleeping(seen.endpoints[0], 600);
    await expect(manager.remove(workload.functionId, 600_000, AbortSignal.timeout(500))).rejects.toThrow();
    await stage().remove(manager, workload.functionId);
    expect(await stage().list(manager)).toEqual([]);
  });

  it('can have a removed function again', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'));
    const before = await stage().settleReady(manager, workload);
    await stage().remove(manager, workload.functionId);
    const after = await stage().settleReady(manager, workload);
    expect(after.endpoints[0]?.replica).not.toBe(before.endpoints[0]?.replica);
  });
}
