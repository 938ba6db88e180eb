import type { Observed, WorkloadFault, WorkloadFaultCode } from '#libs/orchestrator/workload.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FunctionEntity, Phase, StoredFault } from '../functions/function.entity.js';
import { backoffMs, decide, FAILURES_UNTIL_ERROR, rolloutFault } from './outcome.js';

const NOW = new Date('2026-06-01T12:00:00Z');
const OPTIONS = { now: NOW, resyncMs: 60_000, random: 0.5 };
const from = (ms: number) => new Date(NOW.getTime() + ms);

function rowOf(overrides: Partial<FunctionEntity> = {}): FunctionEntity {
  const row: Partial<FunctionEntity> = {
    id: 'aaaaaaaaaaaaaaaa',
    replicas: 1,
    timeoutMs: 30_000,
    generation: 3,
    observedGeneration: 2,
    phase: 'creating',
    phaseSince: from(-100_000),
    reason: null,
    lastFault: null,
    endpoints: [],
    provisionalUntil: null,
    rolloutUntil: null,
    deletedAt: null,
    notBefore: null,
    failures: 0,
    ...overrides,
  };
  return row as FunctionEntity;
}

function faultOf(code: WorkloadFaultCode, at = NOW, terminal = code === 'handler_not_loadable'): WorkloadFault {
  return { code, message: `It is ${code}.`, terminal, at };
}

function seen(ready: number, reason?: WorkloadFault, replicas = ready): Observed {
  const endpoints = Array.from({ length: ready }, (_, index) => ({
    replica: `r${index}`,
    address: { kind: 'tcp' as const, host: '127.0.0.1', port: 1 + index },
  }));
  return { replicas, ready, endpoints, primary: 'r0', hostPort: 0, ...(reason === undefined ? {} : { reason }) };
}

const stored = (fault: WorkloadFault): StoredFault => ({ ...fault, at: fault.at.toISOString() });

describe('backoffMs', () => {
  const random = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });

  it('begins at half a second and grows with every failure, up to a minute and a tenth', () => {
    expect([0, 1, 2, 3, 8, 9].map((failures) => backoffMs(failures, 0.5))).toEqual([
      500, 500, 1_000, 2_000, 60_000, 60_000,
    ]);
    fc.assert(
      fc.property(fc.nat(1_000_000), random, (failures, random) => {
        const pause = backoffMs(failures, random);
        expect(pause).toBeLessThanOrEqual(backoffMs(failures + 1, random));
        expect(pause).toBeGreaterThanOrEqual(450);
        expect(pause).toBeLessThanOrEqual(66_000);
      }),
    );
  });
});

describe('decide', () => {
  it('gives up a run whose worker was ready and is gone', () => {
    const run = { isRun: true, provisionalUntil: from(60_000), observedGeneration: 3 };
    const fault = faultOf('worker_crashed');
    expect(decide(rowOf(run), seen(0, fault), OPTIONS).phase).toBe('error');
    expect(decide(rowOf(run), seen(0), OPTIONS).phase).toBe('error');
    expect(decide(rowOf(run), seen(1), OPTIONS).phase).toBe('running');
    // It doesn't answer at the moment.
    expect(decide(rowOf(run), seen(0, faultOf('starting'), 1), OPTIONS).phase).toBe('creating');
    expect(decide(rowOf({ ...run, observedGeneration: 0 }), seen(0, fault), OPTIONS).phase).toBe('creating');
    expect(decide(rowOf({ observedGeneration: 3 }), seen(0, fault), OPTIONS).phase).toBe('creating');
  });

  it('calls a function with all its replicas running, whatever went wrong before', () => {
    const fault = faultOf('worker_crashed', from(-1_000));
    const row = rowOf({ failures: 2, lastFault: stored(fault), provisionalUntil: from(10_000) });
    expect(decide(row, seen(1, fault), OPTIONS)).toMatchObject({
      phase: 'running',
      reason: null,
      lastFault: stored(fault),
      observedGeneration: 3,
      provisional: false,
      failures: 2,
      abandon: false,
    });
  });

  it('rechecks soon while a function starts, and counts no failure', () => {
    const outcome = decide(rowOf(), seen(0, faultOf('starting'), 1), OPTIONS);
    expect(outcome).toMatchObject({ phase: 'creating', failures: 0, backoffMs: null, nextMs: 1_000, lastFault: null });
    expect(outcome.reason?.code).toBe('starting');
  });

  it('rechecks slowly while the replica waits for a start slot, because the engine tells when it starts', () => {
    const outcome = decide(rowOf(), seen(0, faultOf('starting'), 0), OPTIONS);
    expect(outcome).toMatchObject({ phase: 'creating', failures: 0, backoffMs: null, nextMs: 5_000, lastFault: null });
  });

  it('goes on serving with some of its replicas, without claiming that all is as wanted', () => {
    const outcome = decide(rowOf({ replicas: 3 }), seen(1, faultOf('worker_crashed')), OPTIONS);
    expect(outcome).toMatchObject({ phase: 'running', observedGeneration: 2, reason: { code: 'worker_crashed' } });
  });

  it('serves with all its replicas without claiming that all is as wanted while the engine refuses anything', () => {
    const outcome = decide(rowOf(), seen(1, faultOf('rejected')), OPTIONS);
    expect(outcome).toMatchObject({ phase: 'running', observedGeneration: 2, reason: { code: 'rejected' } });
    expect(outcome.nextMs).toBeLessThanOrEqual(1_000);
  });

  it('counts a fault once, however often it is seen', () => {
    const fault = faultOf('worker_crashed');
    const first = decide(rowOf(), seen(0, fault), OPTIONS);
    expect(first).toMatchObject({ failures: 1, backoffMs: 500 });
    const row = rowOf({ failures: 1, lastFault: first.lastFault, notBefore: from(500) });
    const second = decide(row, seen(0, fault), { ...OPTIONS, now: from(200) });
    expect(second).toMatchObject({ failures: 1, backoffMs: 300, nextMs: 300 });
    expect(decide(row, seen(0, faultOf('worker_crashed', from(1))), OPTIONS)).toMatchObject({ failures: 2 });
  });

  it('doubles the pause with every new fault', () => {
    const pauses = [0, 1, 2, 3].map(
      (failures) => decide(rowOf({ failures }), seen(0, faultOf('rejected')), OPTIONS).backoffMs,
    );
    expect(pauses).toEqual([500, 1_000, 2_000, 4_000]);
  });

  it('delays the next replacement too until the failures are forgotten', () => {
    const lastFault = stored(faultOf('worker_crashed', from(-3_000)));
    const replaced = decide(rowOf({ failures: 3, lastFault, notBefore: from(-1) }), seen(0), OPTIONS);
    expect(replaced).toMatchObject({ failures: 3, backoffMs: 2_000 });
    const healed = decide(rowOf({ failures: 3, lastFault, notBefore: from(1_500) }), seen(1), OPTIONS);
    expect(healed).toMatchObject({ failures: 3, backoffMs: 1_500 });
    const stable = decide(
      rowOf({ failures: 3, phase: 'running', lastFault: stored(faultOf('worker_crashed', from(-60_000))) }),
      seen(1),
      OPTIONS,
    );
    expect(stable).toMatchObject({ failures: 0, backoffMs: null });
  });

  it('calls a function that fails again and again an error, and one that can’t be started at once', () => {
    const crashed = (failures: number) =>
      decide(rowOf({ failures }), seen(0, faultOf('worker_crashed')), OPTIONS).phase;
    expect(crashed(FAILURES_UNTIL_ERROR - 2)).toBe('creating');
    expect(crashed(FAILURES_UNTIL_ERROR - 1)).toBe('error');
    for (const code of ['image_unavailable', 'rejected', 'unschedulable', 'handler_not_loadable'] as const) {
      expect(decide(rowOf(), seen(0, faultOf(code)), OPTIONS).phase).toBe('error');
    }
  });

  it('goes on looking for a machine, and calls the function with those of its replicas that have one', () => {
    const fault = faultOf('unschedulable');
    const alone = decide(rowOf(), seen(0, fault, 1), OPTIONS);
    expect(alone).toMatchObject({ phase: 'error', reason: { code: 'unschedulable' }, nextMs: 500 });
    const some = decide(rowOf({ replicas: 3 }), seen(1, fault, 3), OPTIONS);
    expect(some).toMatchObject({ phase: 'running', reason: { code: 'unschedulable' } });
    const row = rowOf({ failures: 1, lastFault: stored(fault), phase: 'error' });
    expect(decide(row, seen(1), OPTIONS)).toMatchObject({ phase: 'running', reason: null });
  });

  it('never tries the same file again once it can’t be loaded, unless asked', () => {
    expect(decide(rowOf(), seen(0, faultOf('handler_not_loadable')), OPTIONS).nextMs).toBeNull();
  });

  it('tries a file again that could be loaded before, and tells its calls why after the second time', () => {
    const again = (at: Date) => seen(0, faultOf('handler_not_loadable', at, false));
    const first = decide(rowOf(), again(NOW), OPTIONS);
    expect(first).toMatchObject({ phase: 'creating', failures: 1, nextMs: 500 });
    const before = rowOf({ failures: 1, lastFault: first.lastFault });
    expect(decide(before, again(NOW), OPTIONS)).toMatchObject({ phase: 'creating' });
    const second = decide(before, again(from(100)), OPTIONS);
    expect(second).toMatchObject({ phase: 'error', failures: 2, reason: { code: 'handler_not_loadable' } });
    const row = rowOf({ failures: 2, lastFault: second.lastFault, phase: 'error' });
    expect(decide(row, again(from(100)), OPTIONS)).toMatchObject({ phase: 'error', nextMs: 1_000 });
    expect(decide(row, seen(1), OPTIONS)).toMatchObject({ phase: 'running', reason: null });
  });

  it('lets a provisional function wait for its deadline, then abandons it', () => {
    const row = rowOf({ provisionalUntil: from(7_000) });
    const terminal = seen(0, faultOf('handler_not_loadable'));
    expect(decide(row, terminal, OPTIONS)).toMatchObject({ provisional: true, nextMs: 7_000, abandon: false });
    expect(decide(row, terminal, { ...OPTIONS, now: from(7_000) })).toMatchObject({ abandon: true, nextMs: 1 });
    const starting = seen(0, faultOf('starting'), 1);
    expect(decide(row, starting, { ...OPTIONS, now: from(6_600) }).nextMs).toBe(400);
    expect(decide(row, seen(1), { ...OPTIONS, now: from(9_000) })).toMatchObject({
      abandon: false,
      provisional: false,
    });
  });

  it('abandons a run at its end, though its replica is ready', () => {
    const row = rowOf({ provisionalUntil: from(7_000), isRun: true });
    expect(decide(row, seen(1), OPTIONS)).toMatchObject({ phase: 'running', provisional: true, nextMs: 7_000 });
    expect(decide(row, seen(1), { ...OPTIONS, now: from(7_000) })).toMatchObject({ abandon: true, nextMs: 1 });
  });

  it('forgets failures once a function was ready for twice the pause they cost it', () => {
    const ready = (ms: number, overrides: Partial<FunctionEntity> = {}) =>
      rowOf({ failures: 3, phase: 'running', phaseSince: from(-ms), ...overrides });
    const ended = (ms: number) => ({ lastFault: stored(faultOf('worker_crashed', from(-ms))) });
    expect(decide(ready(4_000), seen(1), OPTIONS).failures).toBe(3);
    expect(decide(ready(4_001), seen(1), OPTIONS).failures).toBe(0);
    expect(decide(ready(60_000, ended(4_000)), seen(1), OPTIONS).failures).toBe(3);
    expect(decide(ready(60_000, ended(4_001)), seen(1), OPTIONS).failures).toBe(0);
    expect(decide(ready(60_000, { phase: 'creating' }), seen(1), OPTIONS).failures).toBe(3);
    expect(decide(ready(60_000), seen(0, undefined, 1), OPTIONS).failures).toBe(3);
  });

  it('counts a new failure from one again where the former are forgotten', () => {
    const crash = seen(0, faultOf('worker_crashed'));
    const row = (ms: number) => rowOf({ failures: 4, phase: 'running', phaseSince: from(-ms) });
    expect(decide(row(8_001), crash, OPTIONS)).toMatchObject({ failures: 1, phase: 'creating', backoffMs: 500 });
    expect(decide(row(8_000), crash, OPTIONS)).toMatchObject({ failures: 5, phase: 'error', backoffMs: 8_000 });
  });

  it('leaves a function without replicas alone until something asks', () => {
    const asleep = rowOf({ replicas: 0, phase: 'idle' });
    expect(decide(asleep, seen(0), OPTIONS)).toMatchObject({ phase: 'idle', nextMs: null });
  });

  it('rechecks a function that fell asleep when its longest call must be over', () => {
    const falling = rowOf({ replicas: 0, phase: 'running', timeoutMs: 30_000 });
    expect(decide(falling, seen(0), OPTIONS)).toMatchObject({ phase: 'idle', nextMs: 35_000 });
  });

  it('rechecks a sleeping function until its last replica is gone', () => {
    const asleep = rowOf({ replicas: 0, phase: 'idle', timeoutMs: 30_000 });
    expect(decide(asleep, { ...seen(0), leaving: 1 }, OPTIONS)).toMatchObject({ phase: 'idle', nextMs: 35_000 });
    expect(decide(asleep, { ...seen(0), leaving: 0 }, OPTIONS)).toMatchObject({ phase: 'idle', nextMs: null });
  });

  it('keeps its invariants for every row and every observation', () => {
    const maybeDate = fc.option(
      fc.integer({ min: -100_000, max: 100_000 }).map((ms) => from(ms)),
      { nil: null },
    );
    const fault = fc.record({
      code: fc.constantFrom<WorkloadFaultCode>(
        'handler_not_loadable',
        'worker_crashed',
        'out_of_memory',
        'image_unavailable',
        'rejected',
        'unschedulable',
        'starting',
      ),
      at: fc.integer({ min: -100_000, max: 0 }),
      terminal: fc.boolean(),
    });
    const row = fc.record({
      replicas: fc.nat(4),
      failures: fc.nat(50),
      phase: fc.constantFrom<Phase>('creating', 'running', 'error', 'idle'),
      phaseSince: fc.integer({ min: -200_000, max: 1_000 }).map(from),
      provisionalUntil: maybeDate,
      notBefore: maybeDate,
      lastFault: fc.option(fault, { nil: null }),
    });
    const look = fc.record({ ready: fc.nat(5), replicas: fc.nat(5), reason: fc.option(fault, { nil: null }) });
    const random = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
    const real = ({ code, at, terminal }: { code: WorkloadFaultCode; at: number; terminal: boolean }) =>
      faultOf(code, from(at), terminal && code !== 'starting');
    fc.assert(
      fc.property(row, look, random, ({ lastFault, ...columns }, { ready, replicas, reason }, random) => {
        const given = rowOf({ ...columns, lastFault: lastFault === null ? null : stored(real(lastFault)) });
        const observed = seen(ready, reason === null ? undefined : real(reason), replicas);
        const outcome = decide(given, observed, { ...OPTIONS, random });
        for (const ms of [outcome.nextMs, outcome.backoffMs]) {
          if (ms !== null) expect(ms).toBeGreaterThan(0);
          if (ms !== null) expect(ms).toBeLessThanOrEqual(100_000);
        }
        const late = given.provisionalUntil !== null && given.provisionalUntil <= NOW;
        expect(outcome.abandon).toBe(outcome.provisional && late);
        if (outcome.endpoints.length > 0 && given.replicas > 0) expect(outcome.abandon).toBe(false);
        if (outcome.provisional) expect(outcome.nextMs).not.toBeNull();
        expect(outcome.failures).toBeLessThanOrEqual(given.failures + 1);
        if (outcome.reason === null && given.replicas > 0 && ready === 0) expect(reason).toBeNull();
      }),
      { numRuns: 500 },
    );
  });
});

describe('A revision that is to take over', () => {
  const rollout = (overrides: Partial<FunctionEntity> = {}) =>
    rowOf({ phase: 'running', rolloutUntil: from(60_000), activeRevision: 2, servingRevision: 1, ...overrides });
  const outcomeOf = (row: FunctionEntity, observed: Observed) => {
    const outcome = decide(row, observed, OPTIONS);
    return { ...outcome, fault: rolloutFault(row, outcome, NOW)?.code };
  };

  it('takes over when all its replicas answer, and none of the former one has calls', () => {
    expect(outcomeOf(rollout(), seen(1))).toMatchObject({ takesOver: true, fault: undefined });
    expect(outcomeOf(rollout(), { ...seen(1), former: 1 })).toMatchObject({ takesOver: false, fault: undefined });
    expect(outcomeOf(rollout({ replicas: 2 }), seen(1))).toMatchObject({ takesOver: false, fault: undefined });
    expect(outcomeOf(rowOf(), seen(1))).toMatchObject({ takesOver: false, fault: undefined });
  });

  it('is looked at soon after it has taken over, where its step has left the former workers to another', () => {
    const row = rowOf({ rolloutUntil: from(60_000), servingRevision: 1 });
    const left = { ...seen(1), isUnfinished: true };
    expect(decide(row, left, OPTIONS)).toMatchObject({ takesOver: true, nextMs: 100 });
    expect(decide(rowOf(), left, OPTIONS).nextMs).toBe(100);
    expect(decide(rowOf(), seen(1), OPTIONS).nextMs).toBe(60_000);
  });

  it('does not take over by being asleep', () => {
    expect(outcomeOf(rollout({ replicas: 0 }), seen(0))).toMatchObject({ takesOver: false });
  });

  it('is given up at once where it can’t be loaded or started, and after two ends', () => {
    for (const code of ['handler_not_loadable', 'image_unavailable', 'rejected', 'unschedulable'] as const) {
      expect(outcomeOf(rollout(), seen(0, faultOf(code)))).toMatchObject({ fault: code });
    }
    expect(outcomeOf(rollout(), seen(0, faultOf('worker_crashed')))).toMatchObject({ fault: undefined });
    const again = rollout({ failures: 1, lastFault: stored(faultOf('worker_crashed', from(-1_000))) });
    expect(outcomeOf(again, seen(0, faultOf('worker_crashed')))).toMatchObject({ fault: 'worker_crashed' });
  });

  it('is given up when its time is over, and looked at until then', () => {
    expect(outcomeOf(rollout(), seen(0, faultOf('starting'), 1))).toMatchObject({ fault: undefined, nextMs: 1_000 });
    expect(outcomeOf(rollout({ rolloutUntil: from(-1) }), seen(0, faultOf('starting')))).toMatchObject({
      fault: 'starting',
    });
    // The manager that gives it up may die before it has.
    expect(outcomeOf(rollout(), seen(0, faultOf('handler_not_loadable'))).nextMs).toBeLessThanOrEqual(1_000);
    expect(outcomeOf(rollout(), seen(0, faultOf('handler_not_loadable'))).nextMs).not.toBeNull();
  });
});
