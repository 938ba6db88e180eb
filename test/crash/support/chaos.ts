import { setTimeout as delay } from 'node:timers/promises';
import { type Caller, shown } from './caller.js';
import { Calls } from './calls.js';
import { type Handler, newHandler } from './handlers.js';
import { History } from './history.js';
import { Inspection } from './inspection.js';
import { type Entry, Ledger } from './ledger.js';
import { describePlan, type Ground, type Kill, type Plan, planRound } from './plan.js';
import { killProcess } from './processes.js';
import type { Random } from './random.js';
import type { WorkerView } from './site.js';
import { CALL_TIMEOUT_MS, type Stage } from './stage.js';

const FEWEST = 3;
const MOST = 5;
const STRIKES = 2;
/** Filling pools takes the processor longer than anything else: mostly the next round begins meanwhile, as in real life. */
const ROUNDS_UNTIL_FULL = 5;

/** Rounds of operations with kills among them, and what must be true after each. */
export class Chaos {
  private readonly ledger = new Ledger();
  private readonly history: History;
  private readonly inspection: Inspection;
  private readonly calls: Calls;
  private readonly ground: Ground;
  private disturbed = new Set<string>();
  private allDisturbed = false;
  /** How long it took until all was well again. */
  readonly recoveries = new Map<string, number[]>();

  constructor(
    private readonly stage: Stage,
    private readonly seed: string,
  ) {
    this.ground = { engine: stage.site.engine, hasPool: stage.site.pool !== undefined };
    this.history = new History(stage, seed);
    this.inspection = new Inspection(stage, this.ledger, this.history);
    this.calls = new Calls(stage, this.ledger, this.history, this.inspection.identities);
  }

  /** How calls during crashes ended. */
  get replies(): ReadonlyMap<string, number> {
    return this.calls.replies;
  }

  /** How many workers one manager's pool has given to functions, at the most. */
  get given(): number {
    return this.inspection.given;
  }

  async round(number: number): Promise<void> {
    const plan = planRound(this.seed, this.ground, number);
    await this.reported(`round ${number}: kill ${describePlan(plan)}`, async () => {
      const before = await this.stage.site.workers();
      await this.crash(plan);
      const recovering = performance.now();
      const after = await this.inspection.converge(number % ROUNDS_UNTIL_FULL === 0 ? 'full' : 'filling');
      this.checkUntouched(before, after);
      const key = describePlan(plan);
      this.recoveries.set(key, [...(this.recoveries.get(key) ?? []), performance.now() - recovering]);
    });
  }

  /** Removes every function and sees that nothing is left of any. */
  async finish(): Promise<void> {
    await this.reported('the end: remove all', async () => {
      await this.inspection.converge('filling');
      const { callers } = this.stage;
      await Promise.all(
        this.ledger.with('present').map((entry, index) => this.remove(entry, callers[index % 2] as Caller)),
      );
      await this.inspection.converge('full');
      const left = this.ledger.with('present', 'removing', 'going');
      if (left.length > 0) this.history.fault(`${left.length} functions are left after all were removed`);
    });
  }

  /** Functions for the tests beside the rounds. */
  async populate(count: number): Promise<Entry[]> {
    return this.reported(`upload ${count}`, async () => {
      const plan = planRound(this.seed, this.ground, 0);
      const { callers } = this.stage;
      const missing = Math.max(0, count - this.ledger.with('present').length);
      await Promise.all(
        Array.from({ length: missing }, (_, index) =>
          this.upload(newHandler(plan.random), callers[index % 2] as Caller),
        ),
      );
      await this.inspection.converge('filling');
      return this.ledger.with('present');
    });
  }

  /** Waits until all is as promised and answers the workers there are; in their history under `title`. */
  settled(title: string): Promise<WorkerView[]> {
    return this.reported(title, () => this.inspection.converge('filling'));
  }

  report(error: unknown): Error {
    return this.history.report(error);
  }

  private async reported<T>(title: string, work: () => Promise<T>): Promise<T> {
    this.history.begin(title);
    this.disturbed = new Set();
    this.allDisturbed = false;
    try {
      const result = await work();
      this.history.throwFaults();
      return result;
    } catch (error) {
      throw this.report(error);
    }
  }

  private async crash(plan: Plan): Promise<void> {
    const { random, uploads } = plan;
    const calling = this.calls.begin(plan);
    const population = this.ledger.with('present').length;
    const removals = population < FEWEST ? [] : plan.removals.slice(0, population > MOST ? undefined : uploads.length);
    const work = [
      ...uploads.map(async ({ at, manager, kind }) => {
        await delay(at);
        await this.upload(newHandler(random, kind), this.stage.callers[manager] as Caller);
      }),
      ...removals.map(async ({ at, manager }) => {
        await delay(at);
        const candidates = this.ledger.with('present');
        const worn = candidates.filter(({ strikes }) => strikes >= STRIKES);
        const entry = random.pick(worn.length > 0 ? worn : candidates);
        await this.remove(entry, this.stage.callers[manager] as Caller);
      }),
      ...plan.kills.map((kill) => this.killAndRestart(kill, plan)),
    ];
    const results = await Promise.allSettled(work);
    await calling.end();
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  private async killAndRestart(kill: Kill, { random }: Plan): Promise<void> {
    const { managers, postgres, site } = this.stage;
    await delay(kill.at);
    switch (kill.victim) {
      case 'manager':
      case 'managers': {
        const killed = kill.victim === 'managers' ? managers : [managers[kill.which] as (typeof managers)[number]];
        await Promise.all(killed.map((manager) => manager.kill()));
        this.history.note(`killed manager ${killed.map(({ name }) => name).join(' and ')}`);
        await delay(kill.downFor);
        await Promise.all(killed.map((manager) => manager.start()));
        this.history.note(`started manager ${killed.map(({ name }) => name).join(' and ')}`);
        return;
      }
      case 'database':
        await postgres.kill();
        this.history.note('killed the database');
        await delay(kill.downFor);
        await postgres.restart();
        this.history.note('started the database');
        return;
      case 'engine':
        if (!kill.keepWorkers) this.disturbAll();
        await site.daemon?.kill();
        this.history.note('killed the engine');
        await delay(kill.downFor);
        await site.daemon?.restart(kill.keepWorkers);
        this.history.note(`started the engine${kill.keepWorkers ? ', its workers lived on' : ''}`);
        return;
      case 'watches':
        await site.cutWatches?.();
        this.history.note('cut the watches');
        return;
      case 'waiting': {
        const waiting = (await site.pool?.waiting().catch(() => [])) ?? [];
        if (waiting.length === 0) return;
        const worker = random.pick(waiting);
        if (site.kill !== undefined) await site.kill(worker);
        else killProcess(worker.pid);
        this.history.note(`killed a worker of the pool (pid ${worker.pid}, ${worker.replica})`);
        return;
      }
      case 'worker':
      case 'runner':
        await this.killWorker(kill.victim, random);
    }
  }

  private async killWorker(victim: 'worker' | 'runner', random: Random): Promise<void> {
    const { site } = this.stage;
    // The engine may be the other victim of this round; then there is nothing to pick from.
    const workers = await site.workers().catch(() => []);
    if (workers.length === 0) return;
    const worker = random.pick(workers);
    const entry = this.ledger.byId(worker.functionId);
    if (victim === 'worker') {
      this.disturbed.add(worker.functionId);
      if (entry !== undefined) entry.strikes += 1;
    }
    const pid = victim === 'worker' ? worker.pid : worker.runners?.[0];
    if (site.kill !== undefined) await site.kill(worker);
    else if (pid !== undefined) killProcess(pid);
    this.history.note(`killed the ${victim} of ${worker.functionId} (pid ${pid}, ${worker.replica})`);
  }

  private disturbAll(): void {
    this.allDisturbed = true;
    for (const entry of this.ledger.with('present')) entry.strikes += 1;
  }

  private async upload(handler: Handler, caller: Caller): Promise<void> {
    const entry = this.ledger.add(handler);
    this.history.note(`upload ${handler.token} (${handler.kind})`);
    const reply = await caller.upload(handler, CALL_TIMEOUT_MS);
    const fault = this.ledger.uploaded(entry, reply);
    this.history.note(`upload ${handler.token}: ${entry.id ?? ''} ${shown(reply)}`);
    if (fault !== undefined) this.history.fault(fault);
  }

  private async remove(entry: Entry, caller: Caller): Promise<void> {
    if (entry.belief !== 'present') return;
    entry.belief = 'removing';
    this.history.note(`remove ${entry.id}`);
    const reply = await caller.remove(entry.id ?? '');
    const fault = this.ledger.removed(entry, reply);
    this.history.note(`remove ${entry.id}: ${shown(reply)}`);
    if (fault !== undefined) this.history.fault(fault);
  }

  /** Workers that nobody killed must not have been replaced, whatever else was killed. */
  private checkUntouched(before: readonly WorkerView[], after: readonly WorkerView[]): void {
    if (this.allDisturbed) return;
    for (const worker of before) {
      if (this.ledger.byId(worker.functionId)?.handler.kind !== 'steady') continue;
      const now = after.find(({ functionId }) => functionId === worker.functionId);
      if (now === undefined || this.disturbed.has(worker.functionId)) continue;
      if (now.replica !== worker.replica || now.pid !== worker.pid) {
        this.history.fault(`the healthy worker ${worker.replica.slice(0, 12)} of ${worker.functionId} was replaced`);
      }
    }
  }
}
