import type { Endpoint } from '#libs/orchestrator/workload.js';
import { InvalidRequest } from '#libs/errors/errors.js';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Cancellation } from './cancellation.js';
import { Connections } from './connections.js';
import { type Links, type Replica, type Slot, SlotPool } from './slot-pool.js';

class Refused extends InvalidRequest {
  constructor(
    readonly why: string,
    readonly waiting = 0,
  ) {
    super(why);
  }
}

const endpoint = (replica: string, port = 1): Endpoint => ({
  replica,
  address: { kind: 'tcp', host: '127.0.0.1', port },
});
const [A, B] = [endpoint('a'), endpoint('b')];
const draining: Replica[] = [];
const links: Links = {
  connectionsTo: ({ address }) => new Connections(address),
  onDraining: (replica) => void draining.push(replica),
};
const SET_ASIDE_MS = 250;

function poolOf(endpoints: readonly Endpoint[], { concurrency = 1, queue = 10 } = {}): SlotPool {
  const pool = new SlotPool(concurrency, queue, links);
  pool.update(endpoints, concurrency);
  return pool;
}

async function acquire(pool: SlotPool, { waitMs = 1_000, cancellation = new Cancellation() } = {}): Promise<Slot> {
  return pool.acquire({ waitMs, cancellation, refused: (why, waiting) => new Refused(why, waiting) });
}

async function acquireInBackground(pool: SlotPool, waitMs = 1_000): Promise<Slot> {
  const cancellation = new Cancellation();
  return pool.acquire({ waitMs, cancellation, isBackground: true, refused: (why) => new Refused(why) });
}

const release = (slot: Slot) => slot[Symbol.dispose]();
const settle = () => vi.advanceTimersByTimeAsync(0);

describe('SlotPool', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('gives background calls half of its slots, and one at least', async () => {
    const pool = poolOf([A, B], { concurrency: 3 });
    const background = Array.from({ length: 4 }, () => acquireInBackground(pool));
    await settle();
    expect([pool.inFlight, pool.waiting]).toEqual([3, 1]);
    const others = await Promise.all([acquire(pool), acquire(pool), acquire(pool)]);
    expect([pool.inFlight, pool.waiting]).toEqual([6, 1]);
    for (const slot of others) release(slot);
    expect([pool.inFlight, pool.waiting]).toEqual([3, 1]);
    release(await background[0]!);
    release(await background[3]!);
    expect([pool.inFlight, pool.waiting]).toEqual([2, 0]);
    const single = poolOf([A]);
    release(await acquireInBackground(single));
    expect(single.inFlight).toBe(0);
  });

  it('gives a slot to a background call when no other call waits for one', async () => {
    const pool = poolOf([A]);
    const order: string[] = [];
    const first = await acquire(pool);
    const background = acquireInBackground(pool).then((slot) => (order.push('background'), slot));
    const other = acquire(pool).then((slot) => (order.push('other'), slot));
    release(first);
    release(await other);
    release(await background);
    expect(order).toEqual(['other', 'background']);
  });

  it('counts background calls in no queue, lets them wait as long as they may, and refuses them with all others', async () => {
    const pool = poolOf([A], { queue: 1 });
    const slot = await acquire(pool);
    const late = acquireInBackground(pool, 100);
    const refused = acquireInBackground(pool);
    expect([pool.isFull, pool.waiting]).toEqual([false, 2]);
    const expected = expect(late).rejects.toMatchObject({ why: 'waited_too_long' });
    await vi.advanceTimersByTimeAsync(100);
    await expected;
    pool.rejectWaiters(new Refused('gone'));
    await expect(refused).rejects.toMatchObject({ why: 'gone' });
    release(slot);
    expect([pool.inFlight, pool.waiting]).toEqual([0, 0]);
  });

  it('tells at each update of replicas that are no endpoints any more and have calls under way', async () => {
    draining.length = 0;
    const pool = poolOf([A, B]);
    const slots = [await acquire(pool), await acquire(pool)];
    const onA = slots.find(({ replica }) => replica.endpoint === A)!;
    release(slots.find((slot) => slot !== onA)!);
    pool.update([], 1);
    pool.update([], 1);
    expect(draining).toEqual([onA.replica, onA.replica]);
    release(onA);
    pool.update([], 1);
    expect(draining).toHaveLength(2);
  });

  it('gives a free slot at once, and the next one to the call that waited longest', async () => {
    const pool = poolOf([A]);
    const first = await acquire(pool);
    const served: string[] = [];
    const second = acquire(pool).then((slot) => (served.push('second'), slot));
    const third = acquire(pool).then((slot) => (served.push('third'), slot));
    await settle();
    expect(served).toEqual([]);
    release(first);
    release(await second);
    release(await third);
    expect(served).toEqual(['second', 'third']);
    expect([pool.inFlight, pool.waiting]).toEqual([0, 0]);
  });

  it('knows how many calls may run at once, or may once there is a replica', () => {
    const pool = poolOf([], { concurrency: 3 });
    expect([pool.isEmpty, pool.slots]).toEqual([true, 3]);
    pool.update([A, B], 3);
    expect([pool.isEmpty, pool.slots]).toEqual([false, 6]);
  });

  it('prefers the replica with the fewest calls', async () => {
    const pool = poolOf([A, B], { concurrency: 2 });
    const taken = [await acquire(pool), await acquire(pool), await acquire(pool), await acquire(pool)];
    expect(taken.map(({ replica }) => replica.endpoint.replica).toSorted()).toEqual(['a', 'a', 'b', 'b']);
    expect(taken[0]!.replica).not.toBe(taken[1]!.replica);
  });

  it('counts a slot given back twice once', async () => {
    const pool = poolOf([A]);
    const slot = await acquire(pool);
    release(slot);
    release(slot);
    expect(pool.inFlight).toBe(0);
    await acquire(pool);
    const waiting = acquire(pool);
    release(slot);
    await settle();
    expect(pool.waiting).toBe(1);
    await vi.advanceTimersByTimeAsync(0);
    waiting.catch(() => undefined);
  });

  it('refuses the call that finds the queue full and says how many wait', async () => {
    const pool = poolOf([A], { queue: 1 });
    await acquire(pool);
    const waiting = acquire(pool);
    await expect(acquire(pool)).rejects.toMatchObject({ why: 'queue_full', waiting: 1 });
    pool.rejectWaiters(new Refused('removed'));
    await expect(waiting).rejects.toMatchObject({ why: 'removed' });
  });

  it('lets one call wait for a first replica even without a queue', async () => {
    const pool = poolOf([], { queue: 0 });
    const waiting = acquire(pool);
    await expect(acquire(pool)).rejects.toMatchObject({ why: 'queue_full' });
    pool.update([A], 1);
    expect((await waiting).replica.endpoint).toEqual(A);
  });

  it('gives up a call that waited too long, and one whose caller left, and forgets both', async () => {
    const pool = poolOf([A]);
    const held = await acquire(pool);
    const late = expect(acquire(pool, { waitMs: 50 })).rejects.toMatchObject({ why: 'waited_too_long' });
    const cancellation = new Cancellation();
    const left = expect(acquire(pool, { cancellation })).rejects.toMatchObject({ why: 'cancelled' });
    cancellation.cancel();
    await left;
    await vi.advanceTimersByTimeAsync(51);
    await late;
    expect(pool.waiting).toBe(0);
    release(held);
    expect(pool.inFlight).toBe(0);
  });

  it('refuses a waiter whose caller had left before it came', async () => {
    const pool = poolOf([]);
    const gone = new Cancellation();
    gone.cancel();
    await expect(acquire(pool, { cancellation: gone })).rejects.toMatchObject({ why: 'cancelled' });
  });

  it('gives a draining replica no new call, lets it finish its calls, and then closes its sockets', async () => {
    const pool = poolOf([A]);
    const slot = await acquire(pool);
    const closed = vi.spyOn(slot.replica.connections, 'close');
    pool.update([B], 1);
    expect((await acquire(pool)).replica.endpoint).toEqual(B);
    expect(pool.size).toBe(1);
    expect(closed).not.toHaveBeenCalled();
    release(slot);
    expect(closed).toHaveBeenCalledOnce();
    const waiting = acquire(pool);
    await settle();
    expect(pool.waiting).toBe(1);
    waiting.catch(() => undefined);
  });

  it('keeps the connections and calls of a replica it knows, and opens new ones for a new address', async () => {
    const pool = poolOf([A], { concurrency: 3 });
    const before = await acquire(pool);
    pool.update([B, structuredClone(A)], 3);
    pool.update([structuredClone(A)], 3);
    const after = await acquire(pool);
    expect(after.replica).toBe(before.replica);
    pool.update([endpoint('a', 2)], 3);
    const moved = await acquire(pool);
    expect(moved.replica.connections).not.toBe(before.replica.connections);
    expect(pool.inFlight).toBe(3);
  });

  it('serves waiting calls when the limit per replica grows', async () => {
    const pool = poolOf([A]);
    await acquire(pool);
    const waiting = acquire(pool);
    pool.update([A], 2);
    await expect(waiting).resolves.toBeDefined();
  });

  it('serves waiting calls when a replica that was set aside twice may be tried again', async () => {
    const pool = poolOf([A], { concurrency: 2 });
    const [one, two] = [await acquire(pool), await acquire(pool)];
    pool.setAside(one.replica);
    release(one);
    await vi.advanceTimersByTimeAsync(100);
    pool.setAside(two.replica);
    release(two);
    const waiting = acquire(pool, { waitMs: 60_000 });
    await vi.advanceTimersByTimeAsync(SET_ASIDE_MS - 1);
    expect(pool.waiting).toBe(1);
    await vi.advanceTimersByTimeAsync(3);
    expect(pool.waiting).toBe(0);
    await expect(waiting).resolves.toBeDefined();
  });

  it('keeps its invariants whatever happens in whatever order', async () => {
    await fc.assert(fc.asyncProperty(story, fc.integer({ min: 0, max: 6 }), play), { numRuns: 200 });
  });
});

type Action =
  | { readonly does: 'acquire'; readonly waitMs: number }
  | { readonly does: 'release' | 'leave' | 'setAside'; readonly which: number }
  | { readonly does: 'update'; readonly replicas: readonly string[]; readonly concurrency: number }
  | { readonly does: 'pass'; readonly ms: number };

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ does: fc.constant('acquire'), waitMs: fc.integer({ min: 1, max: 900 }) }) },
  {
    weight: 6,
    arbitrary: fc.record({ does: fc.constantFrom('release', 'release', 'leave', 'setAside'), which: fc.nat(20) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      does: fc.constant('update'),
      replicas: fc.uniqueArray(fc.constantFrom('a', 'b', 'c')),
      concurrency: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('pass'), ms: fc.integer({ min: 1, max: 400 }) }) },
);

const story = fc.array(action, { minLength: 10, maxLength: 60, size: 'max' });

interface Visit {
  readonly number: number;
  readonly cancellation: Cancellation;
  state: 'waiting' | 'served' | 'refused' | 'done';
  slot?: Slot;
}

/** Plays one story and checks after every act what must always be true. */
async function play(story: readonly Action[], queue: number): Promise<void> {
  const pool = new SlotPool(1, queue, links);
  let wanted: readonly string[] = [];
  let concurrency = 1;
  const callers: Visit[] = [];
  const faults: unknown[] = [];
  const asideUntil = new Map<Replica, number>();
  const of = (state: Visit['state']) => callers.filter((one) => one.state === state);
  const onReplica = (name: string) => of('served').filter(({ slot }) => slot!.replica.endpoint.replica === name);

  const come = (waitMs: number) => {
    const one: Visit = { number: callers.length, cancellation: new Cancellation(), state: 'waiting' };
    const { isFull } = pool;
    if (isFull) expect(pool.waiting).toBeGreaterThanOrEqual(Math.max(queue, wanted.length > 0 ? 0 : 1));
    callers.push(one);
    acquire(pool, { waitMs, cancellation: one.cancellation })
      .then(
        (slot) => {
          expect(isFull).toBe(false);
          one.state = 'served';
          one.slot = slot;
          const { replica } = slot;
          expect(wanted, 'a call on a replica that leaves').toContain(replica.endpoint.replica);
          expect(replica.inFlight, 'more calls than the limit').toBeLessThanOrEqual(concurrency);
          expect(performance.now()).toBeGreaterThanOrEqual(asideUntil.get(replica) ?? 0);
          const overtaken = callers.filter(({ state, number }) => state === 'waiting' && number < one.number);
          expect(overtaken, 'overtook').toEqual([]);
        },
        (error: Refused) => {
          expect(isFull).toBe(error.why === 'queue_full');
          one.state = 'refused';
        },
      )
      .catch((fault: unknown) => faults.push(fault));
  };

  const act = (next: Action) => {
    switch (next.does) {
      case 'acquire':
        return come(next.waitMs);
      case 'release': {
        const one = pickOf(of('served'), next.which);
        if (!one) return;
        one.state = 'done';
        release(one.slot!);
        return release(one.slot!);
      }
      case 'leave':
        return pickOf(of('waiting'), next.which)?.cancellation.cancel();
      case 'setAside': {
        const replica = pickOf(of('served'), next.which)?.slot?.replica;
        if (!replica) return;
        pool.setAside(replica);
        asideUntil.set(replica, performance.now() + SET_ASIDE_MS);
        return;
      }
      case 'update':
        wanted = next.replicas;
        concurrency = next.concurrency;
        return pool.update(
          wanted.map((name) => endpoint(name)),
          concurrency,
        );
      case 'pass':
        return;
    }
  };

  for (const next of story) {
    act(next);
    await vi.advanceTimersByTimeAsync(next.does === 'pass' ? next.ms : 0);
    expect(faults).toEqual([]);
    expect(pool.waiting).toBe(of('waiting').length);
    expect(pool.inFlight).toBe(of('served').length);
    expect(pool.size).toBe(wanted.length);
    expect(pool.waiting).toBeLessThanOrEqual(Math.max(1, queue));
    // Nobody waits while a slot is free; a replica without calls may have been set aside before it was emptied.
    const longAgo = performance.now() - 3;
    const free = wanted.filter((name) => {
      const held = onReplica(name);
      const aside = [...asideUntil].some(([replica, until]) => replica.endpoint.replica === name && until > longAgo);
      return held.length < concurrency && !aside;
    });
    if (of('waiting').length > 0) expect(free, 'a free slot and a waiter').toEqual([]);
  }
  await vi.advanceTimersByTimeAsync(1_000);
  expect(of('waiting'), 'callers who never heard').toEqual([]);
  for (const { slot } of of('served')) release(slot!);
  expect(pool.inFlight).toBe(0);
}

function pickOf<T>(from: readonly T[], which: number): T | undefined {
  return from[which % Math.max(1, from.length)];
}
