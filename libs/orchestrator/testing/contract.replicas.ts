import { expect, it } from 'vitest';
import type { Observed } from '../workload.js';
import { answering, SLOW_TO_LOAD } from './contract.handlers.js';
import type { Stage } from './contract.stage.js';

export const replicaIds = (seen: Observed): string[] => seen.endpoints.map((endpoint) => endpoint.replica).toSorted();

export function replicaBehaviour(stage: () => Stage): void {
  it('answers a ping', async () => {
    const manager = await stage().manager();
    await manager.ping(stage().signal());
  });

  it('starts a replica that answers calls', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'));
    const seen = await stage().settleReady(manager, workload);
    expect(seen.primary).not.toBe('');
    expect(seen.reason).toBeUndefined();
    expect(await stage().call(seen.endpoints[0], 'hello')).toEqual({ status: 200, body: { result: 'one:hello' } });
  });

  it('keeps what runs when the same workload is ensured again', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'), { replicas: 2 });
    const first = await stage().settleReady(manager, workload);
    const again = await stage().ensure(manager, workload);
    expect(replicaIds(again)).toEqual(replicaIds(first));
    expect(again.primary).toBe(first.primary);
  });

  it('adopts what a former manager of the same owner started, with its endpoints at once', async () => {
    const former = await stage().manager();
    const workload = stage().workload(answering('one'), { replicas: 2 });
    const before = await stage().settleReady(former, workload);
    const successor = await stage().restart(former);
    const after = await stage().ensure(successor, workload);
    expect(replicaIds(after)).toEqual(replicaIds(before));
    expect(after).toMatchObject({ replicas: 2, ready: 2, primary: before.primary });
    expect((await stage().call(after.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
  });

  it('adopts a replica that is still starting', async () => {
    const former = await stage().manager();
    const workload = stage().workload(SLOW_TO_LOAD);
    expect(await stage().ensure(former, workload)).toMatchObject({ replicas: 1, ready: 0 });
    const successor = await stage().restart(former);
    expect(await stage().ensure(successor, workload)).toMatchObject({ replicas: 1 });
    const seen = await stage().settleReady(successor, workload);
    expect(seen.endpoints).toHaveLength(1);
  });

  it('returns before a replica is ready, and the watch says when it is', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(SLOW_TO_LOAD);
    const watching = stage().watch(manager);
    let hint = watching.hint(workload.functionId);
    let seen = await stage().ensure(manager, workload);
    expect(seen).toMatchObject({ replicas: 1, ready: 0, endpoints: [], reason: { code: 'starting', terminal: false } });
    while (seen.ready === 0) {
      await hint;
      hint = watching.hint(workload.functionId);
      seen = await stage().ensure(manager, workload);
    }
    hint.catch(() => undefined);
    expect(await stage().call(seen.endpoints[0], 'x')).toEqual({ status: 200, body: { result: 'x' } });
  });

  it('scales up without touching what runs, down to fewer, to none and back', async () => {
    const manager = await stage().manager();
    const one = stage().workload(answering('one'));
    const [first] = replicaIds(await stage().settleReady(manager, one));
    const three = replicaIds(await stage().settleReady(manager, { ...one, replicas: 3 }));
    expect(new Set(three).size).toBe(3);
    expect(three).toContain(first);

    const two = replicaIds(await stage().settleReady(manager, { ...one, replicas: 2 }));
    for (const replica of two) expect(three).toContain(replica);

    const none = await stage().settleReady(manager, { ...one, replicas: 0 });
    expect(none).toMatchObject({ replicas: 0, ready: 0, endpoints: [] });

    const back = await stage().settleReady(manager, one);
    expect(three).not.toContain(back.endpoints[0]?.replica);
    expect((await stage().call(back.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
  });

  it('keeps two functions apart', async () => {
    const manager = await stage().manager();
    const first = stage().workload(answering('first'));
    const second = stage().workload(answering('second'));
    await Promise.all([stage().ensure(manager, first), stage().ensure(manager, second)]);
    const [a, b] = [await stage().settleReady(manager, first), await stage().settleReady(manager, second)];
    expect((await stage().call(a.endpoints[0], 'x')).body).toEqual({ result: 'first:x' });
    expect((await stage().call(b.endpoints[0], 'x')).body).toEqual({ result: 'second:x' });

    await stage().remove(manager, first.functionId);
    expect(replicaIds(await stage().ensure(manager, second))).toEqual(replicaIds(b));
    expect((await stage().call(b.endpoints[0], 'y')).body).toEqual({ result: 'second:y' });
  });

  it('starts nothing when the signal is aborted already', async () => {
    const manager = await stage().manager();
    const workload = stage().workload(answering('one'));
    await expect(manager.ensure(workload, AbortSignal.abort())).rejects.toThrow();
    expect(await stage().list(manager)).toEqual([]);
  });

  it('ends the watch when its signal aborts', async () => {
    const manager = await stage().manager();
    const watching = stage().watch(manager);
    await watching.stop();
    await expect(watching.ended).resolves.toBeUndefined();
  });
}
