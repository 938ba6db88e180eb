import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ReplicaHealth } from '#libs/orchestrator/health-probe.js';
import { leavingName, type Replica, type ReplicaState, slotName } from './replica.js';
import { planReplicas, type Seen, type Wanted } from './replica-plan.js';

const ID = 'abcdefghijklmnop';

interface Shape {
  readonly id: string;
  readonly spec?: string;
  readonly revision?: number | undefined;
  readonly state?: ReplicaState;
  readonly slot?: number;
  readonly leaving?: boolean;
  readonly health?: ReplicaHealth;
  readonly terminal?: boolean;
  readonly told?: boolean;
}

function seen(shape: Shape): Seen {
  const { id, spec = 'new', state = 'running', slot = 1, leaving = false, health = 'ready', told = false } = shape;
  const revision = 'revision' in shape ? shape.revision : spec === 'new' ? 2 : 1;
  const facts = { id, functionId: ID, spec, revision, state, createdAt: 1, hostPort: 1, networks: {}, fromPool: false };
  const named = { ...facts, name: slotName(ID, slot), volume: undefined, credential: undefined };
  const replica: Replica = { ...named, slot: leaving ? undefined : slot, leaving };
  const code = shape.terminal ? 'handler_not_loadable' : 'worker_crashed';
  const fault = { code, message: 'ended', terminal: shape.terminal ?? false, at: new Date(0) } as const;
  return {
    replica: leaving ? { ...replica, name: leavingName(replica) } : replica,
    health,
    told,
    ...(state === 'ended' && spec === 'new' && { fault }),
  };
}

const ids = (some: readonly Replica[]) => some.map(({ id }) => id).toSorted();

const WANTED = { spec: 'new', revision: 2, formerRevision: 1 };

function plan(replicas: number, shapes: Shape[], holdEnded = false, rest: Partial<Wanted> = {}) {
  const planned = planReplicas({ ...WANTED, replicas, holdEnded, ...rest }, shapes.map(seen));
  return {
    discard: ids(planned.discard),
    leave: ids(planned.leave),
    keep: ids(planned.keep.map(({ replica }) => replica)),
    former: ids(planned.former.map(({ replica }) => replica)),
    promote: planned.promote?.id,
    start: planned.start,
    faults: planned.faults.length,
  };
}

const NOTHING = { discard: [], leave: [], keep: [], former: [], promote: undefined, start: [], faults: 0 };

describe('planReplicas', () => {
  it('starts what is missing in the lowest free slots', () => {
    expect(
      plan(3, [
        { id: 'a', slot: 2 },
        { id: 'b', slot: 1, health: 'starting' },
      ]),
    ).toEqual({
      ...NOTHING,
      keep: ['a', 'b'],
      start: [3],
    });
  });

  it('starts nothing where nothing may be started, and keeps what has ended as the proof of why', () => {
    const ended = { id: 'a', slot: 1, state: 'ended' as const };
    expect(plan(1, [], true, { startsNone: true })).toEqual(NOTHING);
    expect(plan(1, [ended], true, { startsNone: true })).toMatchObject({ start: [], discard: [] });
  });

  it('keeps the former spec until the wanted replicas are ready, then lets it go', () => {
    const former = { id: 'old', spec: 'old', slot: 1 };
    expect(plan(1, [former])).toEqual({ ...NOTHING, former: ['old'], start: [2] });
    expect(plan(1, [former, { id: 'new', slot: 2, health: 'starting' }])).toEqual({
      ...NOTHING,
      keep: ['new'],
      former: ['old'],
    });
    expect(plan(1, [former, { id: 'new', slot: 2 }])).toEqual({
      ...NOTHING,
      keep: ['new'],
      leave: ['old'],
      promote: 'new',
    });
  });

  it('never has a revision answer that has lost its calls, though the one that has them is not ready', () => {
    const former = { id: 'old', spec: 'old', slot: 1 };
    const taken = { formerRevision: undefined };
    expect(plan(1, [former], false, taken)).toEqual({ ...NOTHING, leave: ['old'], start: [1] });
    expect(plan(1, [former, { id: 'new', slot: 2, health: 'starting' }], false, taken)).toMatchObject({
      leave: ['old'],
      former: [],
    });
    // Of the same revision with other settings, or of one that nobody has noted.
    for (const revision of [2, undefined]) {
      expect(plan(1, [{ ...former, revision }], false, taken)).toMatchObject({ former: ['old'] });
    }
  });

  it('keeps a terminal proof, starts nothing more, and leaves the former spec answering', () => {
    const broken = { id: 'new', slot: 2, state: 'ended', terminal: true, told: true } as const;
    expect(plan(1, [{ id: 'old', spec: 'old' }, broken])).toEqual({ ...NOTHING, former: ['old'], faults: 1 });
  });

  it('replaces an ended replica at once and discards it after it was told', () => {
    const ended = { id: 'a', state: 'ended' } as const;
    expect(plan(1, [ended])).toEqual({ ...NOTHING, start: [2], faults: 1 });
    expect(plan(1, [{ ...ended, told: true }])).toEqual({ ...NOTHING, discard: ['a'], start: [1], faults: 1 });
  });

  it('holds back the replacement of an ended replica, but not of what else is missing', () => {
    const ended = { id: 'a', state: 'ended', told: true } as const;
    expect(plan(1, [ended], true)).toEqual({ ...NOTHING, faults: 1 });
    expect(plan(2, [ended], true)).toEqual({ ...NOTHING, start: [2], faults: 1 });
  });

  it('takes ready replicas over others, and senior ones over new ones, when there are too many', () => {
    const shapes: Shape[] = [
      { id: 'a', slot: 1, health: 'starting' },
      { id: 'b', slot: 2 },
      { id: 'c', slot: 3 },
    ];
    expect(plan(1, shapes)).toEqual({ ...NOTHING, keep: ['b'], leave: ['a', 'c'], promote: 'b' });
  });

  it('removes everything when nothing is wanted', () => {
    const shapes: Shape[] = [
      { id: 'a' },
      { id: 'b', slot: 2, state: 'ended', terminal: true },
      { id: 'c', slot: 3, state: 'half' },
      { id: 'd', spec: 'old' },
    ];
    expect(plan(0, shapes)).toMatchObject({ leave: ['a', 'd'], discard: ['b', 'c'], start: [] });
  });

  it('goes on draining what an earlier manager told to leave', () => {
    expect(plan(1, [{ id: 'a' }, { id: 'b', leaving: true }])).toEqual({ ...NOTHING, keep: ['a'], leave: ['b'] });
  });

  it('replaces a replica that has gone silent', () => {
    expect(plan(1, [{ id: 'a', health: 'unhealthy' }])).toMatchObject({ leave: ['a'], start: [1] });
  });

  it('accounts for every container once, never has more than wanted, and never fills a slot that is taken', () => {
    const shape = fc.record({
      id: fc.uuid(),
      spec: fc.constantFrom('new', 'old'),
      state: fc.constantFrom<ReplicaState>('half', 'generic', 'running', 'ended', 'gone'),
      slot: fc.integer({ min: 1, max: 6 }),
      leaving: fc.boolean(),
      health: fc.constantFrom<ReplicaHealth>('starting', 'ready', 'unhealthy'),
      terminal: fc.boolean(),
      told: fc.boolean(),
    });
    const shapes = fc.uniqueArray(shape, { selector: ({ slot }) => slot, maxLength: 6 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5 }), shapes, fc.boolean(), (wanted, all, holdEnded) => {
        const planned = planReplicas({ ...WANTED, replicas: wanted, holdEnded }, all.map(seen));
        expect(planned.keep.length + planned.start.length).toBeLessThanOrEqual(wanted);
        const acted = [...planned.discard, ...planned.leave].map(({ id }) => id);
        const kept = [...planned.keep, ...planned.former].map(({ replica }) => replica.id);
        expect(new Set([...acted, ...kept]).size).toBe(acted.length + kept.length);
        const taken = all.filter(({ id, leaving }) => !leaving && !acted.includes(id)).map(({ slot }) => slot);
        for (const slot of planned.start) expect(taken).not.toContain(slot);
        const ready = all.some(
          ({ health, state, id }) => state === 'running' && health === 'ready' && kept.includes(id),
        );
        const hadReady = all.some(
          ({ health, state, leaving }) => state === 'running' && health === 'ready' && !leaving,
        );
        if (wanted > 0 && hadReady) expect(ready).toBe(true);
      }),
    );
  });
});
