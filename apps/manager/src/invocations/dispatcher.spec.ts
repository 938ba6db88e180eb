import { randomUUID } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { loadConfig } from '#libs/config/load-config.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { FunctionNotFound } from '../functions/errors.js';
import type { FunctionChanges } from '../functions/function-changes.js';
import type { Route, Router } from '../gateway/router.js';
import { ServiceTime } from '../gateway/service-time.js';
import type { Attempt, AttemptRunner } from './attempt-runner.js';
import { Dispatcher } from './dispatcher.js';
import type { Claimed, Completion, InvocationRepository, Turn } from './invocation.repository.js';
import type { InvocationSignals } from './invocation-signals.js';

const { invocations: CONFIG } = loadConfig({ INVOCATIONS_POLL_MS: '600000', INVOCATIONS_LEASE_MS: '600000' });
const DAY_MS = 86_400_000;

/** A dispatcher, with what is around it in memory. */
class Around {
  /** Slots by function; undefined: its route isn't known. */
  readonly slots = new Map<FunctionId, number>();
  readonly serviceTime = new ServiceTime();
  readonly asked: FunctionId[] = [];
  readonly turns: Turn[] = [];
  readonly attempts: Attempt[] = [];
  readonly steps: string[] = [];
  load: (id: FunctionId) => Promise<Route> = (id) => Promise.reject(new FunctionNotFound(id));
  claims: Claimed[][] = [];
  renew = (): Promise<ReadonlyMap<string, { isCancelled: boolean }>> => Promise.resolve(new Map());
  due!: (id: FunctionId | undefined, inMs: number) => void;
  private changed!: (id: FunctionId | undefined) => unknown;
  readonly dispatcher: Dispatcher;
  readonly ends: ((completion: Completion | undefined) => void)[] = [];

  constructor(config: Partial<typeof CONFIG> = {}) {
    const repository: Partial<InvocationRepository> = {
      claim: (turns) => {
        this.turns.push(...turns);
        return Promise.resolve(this.claims.shift() ?? []);
      },
      upcoming: () => {
        this.steps.push('upcoming');
        return Promise.resolve([]);
      },
      renew: () => {
        this.steps.push('renew');
        return this.renew();
      },
    };
    const runner: Partial<AttemptRunner> = {
      run: (attempt, ran) => {
        this.attempts.push(attempt);
        return new Promise((resolve) => {
          this.ends.push((completion) => (ran(), resolve(completion)));
        });
      },
    };
    const router: Partial<Router> = {
      knownRoute: (id) =>
        this.slots.has(id) ? ({ id, refusal: undefined, serviceTime: this.serviceTime } as Route) : undefined,
      route: (id) => {
        this.asked.push(id);
        return this.load(id);
      },
      slotsOf: ({ id }) => this.slots.get(id) ?? 0,
      refresh: () => Promise.resolve(),
    };
    const signals: Partial<InvocationSignals> = {
      onDue: (listener) => (this.due = listener),
      onCancelled: () => undefined,
      due: () => undefined,
      scheduledEnded: () => this.steps.push('scheduled'),
    };
    const changes: Partial<FunctionChanges> = {
      subscribe: (subscriber) => {
        this.changed = subscriber;
        return () => undefined;
      },
    };
    this.dispatcher = new Dispatcher(
      repository as InvocationRepository,
      runner as AttemptRunner,
      router as Router,
      signals as InvocationSignals,
      changes as FunctionChanges,
      { ...CONFIG, ...config },
      pino({ level: 'silent' }) as unknown as PinoLogger,
    );
  }

  change(id: FunctionId): void {
    void this.changed(id);
  }

  async stop(): Promise<void> {
    this.dispatcher.withdraw();
    for (const end of this.ends) end(undefined);
    await this.dispatcher.onApplicationShutdown();
  }
}

function claimOf(functionId: FunctionId, id: string = randomUUID()): Claimed {
  return {
    ...{ id, functionId, token: randomUUID(), postponed: 0, attempt: 1, createdBy: null, choice: null },
    retry: { maxAttempts: 3, on: [], backoffMs: 0 },
    ...{
      body: Buffer.from('{}'),
      bodyBytes: 2,
      isExpired: false,
      isCancelled: false,
      hasCallback: false,
      isHttp: false,
      isScheduled: false,
    },
  };
}

/** Whatever is under way without waiting for time goes on. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 20; turns += 1) await turn();
}

let around: Around;
afterEach(async () => {
  vi.restoreAllMocks();
  await around.stop();
});

describe('a manager that looks for calls for later', () => {
  it('finds those of a function behind any number of functions that have no room', async () => {
    around = new Around();
    for (let other = 0; other < 200; other += 1) {
      around.slots.set(`full-${other}`, 0);
      around.due(`full-${other}`, 0);
    }
    around.slots.set('free', 1);
    around.due('free', 0);
    await settled();
    expect(around.turns.map(({ functionId }) => functionId)).toEqual(['free']);
  });

  it('waits for no function whose route takes long to be read', async () => {
    around = new Around();
    around.load = () => new Promise(() => undefined);
    around.slots.set('known', 1);
    around.due('unknown', 0);
    around.due('known', 0);
    await settled();
    expect(around.turns.map(({ functionId }) => functionId)).toEqual(['known']);
  });

  it('claims those of a function as soon as its route has been read', async () => {
    around = new Around();
    around.load = (id) => {
      around.slots.set(id, 1);
      return Promise.resolve({ id } as Route);
    };
    around.due('new', 0);
    await vi.waitFor(() => expect(around.turns).toMatchObject([{ functionId: 'new' }]));
  });

  it('asks for a function that is being removed once, and again when that has changed', async () => {
    around = new Around();
    around.load = (id) => Promise.resolve({ id } as Route);
    around.due('leaving', 0);
    await settled();
    for (let other = 0; other < 10; other += 1) {
      around.slots.set(`other-${other}`, 1);
      around.due(`other-${other}`, 0);
      await settled();
    }
    expect(around.asked).toEqual(['leaving']);
    around.change('leaving');
    await settled();
    expect(around.asked).toEqual(['leaving', 'leaving']);
  });

  it('tells of the end of a call that a schedule has made, and not of an attempt that is made again', async () => {
    around = new Around();
    around.slots.set('timed', 4);
    const [once, again] = [claimOf('timed'), claimOf('timed')].map((claim) => ({ ...claim, isScheduled: true }));
    around.claims = [[once!, again!, claimOf('timed')]];
    around.due('timed', 0);
    await settled();
    const [first, second, other] = around.ends;
    second!({ ...again!, status: 'waiting', inMs: 1_000 });
    other!({ ...around.attempts[2]!.claim, status: 'succeeded' });
    await settled();
    expect(around.steps).not.toContain('scheduled');
    first!({ ...once!, status: 'dead' });
    await settled();
    expect(around.steps).toContain('scheduled');
  });

  it('leaves to its polls what is due in weeks', async () => {
    around = new Around();
    around.slots.set('patient', 1);
    const timeout = vi.spyOn(globalThis, 'setTimeout');
    around.due('patient', 30 * DAY_MS);
    await settled();
    expect(timeout).not.toHaveBeenCalled();
    expect(around.turns).toEqual([]);
  });

  it.each([
    [undefined, 4],
    [1, 16],
    [12, 8],
    [60_000, 4],
  ])('claims ahead what its slots serve meanwhile: of calls that take %s ms, %d', async (ms, most) => {
    around = new Around();
    around.slots.set('any', 4);
    if (ms !== undefined) around.serviceTime.note(ms);
    around.due('any', 0);
    await settled();
    expect(around.turns).toEqual([{ functionId: 'any', most }]);
  });

  it('lets a call begin as soon as it is kept, while its function has a slot for it', async () => {
    around = new Around();
    around.slots.set('quick', 4);
    const route = { id: 'quick' } as Route;
    const [first, second] = [around.dispatcher.place(route), around.dispatcher.place(route)];
    expect(around.dispatcher.place(route)).toBeUndefined();
    second?.release();
    first?.begin(claimOf('quick'));
    expect(around.attempts.map(({ claim }) => claim.token)).toEqual([first?.token]);
    const third = around.dispatcher.place(route);
    expect(third).toBeDefined();
    expect(around.dispatcher.place(route)).toBeUndefined();
    third?.release();
    third?.release();
    expect(around.dispatcher.place(route)).toBeDefined();
    await settled();
    expect(around.turns).toEqual([]);
  });

  it('begins no call that took so long to keep that it is another manager’s by then', async () => {
    // Every moment is a long one.
    around = new Around({ leaseMs: 0 });
    around.slots.set('slow', 4);
    const claims = [claimOf('slow'), claimOf('slow')] as const;
    around.renew = () => Promise.resolve(new Map([[claims[1].id, { isCancelled: false }]]));
    for (const claim of claims) around.dispatcher.place({ id: 'slow' } as Route)?.begin(claim);
    await settled();
    expect(around.attempts.map(({ claim }) => claim.id)).toEqual([claims[1].id]);
  });

  it('gives a place that a call had to no other while it begins', async () => {
    around = new Around({ concurrency: 1 });
    around.slots.set('one', 4);
    const place = around.dispatcher.place({ id: 'one' } as Route);
    around.due('one', 0);
    await settled();
    place?.begin(claimOf('one'));
    await settled();
    expect(around.attempts).toHaveLength(1);
    expect(around.turns).toEqual([]);
  });

  it('lets no call go before others of its function, nor begin while it stops', async () => {
    around = new Around();
    around.slots.set('busy', 0);
    around.slots.set('free', 4);
    around.due('busy', 0);
    await settled();
    around.slots.set('busy', 4);
    expect(around.dispatcher.place({ id: 'busy' } as Route)).toBeUndefined();
    const place = around.dispatcher.place({ id: 'free' } as Route);
    around.dispatcher.withdraw();
    place?.begin(claimOf('free'));
    expect(around.attempts.map(({ endedBy }) => endedBy)).toEqual(['shutdown']);
    expect(around.dispatcher.place({ id: 'free' } as Route)).toBeUndefined();
  });

  it('gives up its own attempt of a call that it claims anew', async () => {
    around = new Around();
    around.slots.set('slow', 4);
    const id = randomUUID();
    around.claims = [[claimOf('slow', id)], [claimOf('slow', id)]];
    around.due('slow', 0);
    await settled();
    around.due('slow', 0);
    await settled();
    expect(around.attempts).toHaveLength(2);
    expect(around.attempts.map(({ endedBy }) => endedBy)).toEqual(['lost_lease', undefined]);
  });

  it('renews its leases before it takes back lost ones, when it could not for a while', async () => {
    around = new Around({ pollMs: 50, leaseMs: 3 * 200 });
    around.slots.set('slow', 4);
    around.claims = [[claimOf('slow')]];
    around.due('slow', 0);
    await settled();
    let isAway = true;
    around.renew = () => {
      if (isAway) return Promise.reject(new DatabaseUnavailable(new Error('away')));
      return Promise.resolve(new Map([[around.attempts[0]!.claim.id, { isCancelled: false }]]));
    };
    around.dispatcher.onApplicationBootstrap();
    await vi.waitFor(() => expect(around.steps).toContain('renew'));
    await settled();
    around.steps.length = 0;
    await vi.waitFor(() => expect(around.steps).toContain('upcoming'));
    expect(around.steps[0]).toBe('renew');
    isAway = false;
    await vi.waitFor(() => expect(around.steps.slice(-2)).toEqual(['renew', 'upcoming']));
    expect(around.attempts[0]!.endedBy).toBeUndefined();
  });
});
