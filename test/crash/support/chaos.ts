import { setTimeout as delay } from 'node:timers/promises';
import { type Caller, type FunctionRow, type Reply, rowsOf, shown } from './caller.js';
import { type Handler, isAnswerOf, newHandler, payloadOf, tokenIn } from './handlers.js';
import { type Entry, Ledger } from './ledger.js';
import { describePlan, type Kill, type Plan, planRound } from './plan.js';
import { killProcess } from './processes.js';
import type { WorkerView } from './site.js';
import { CALL_TIMEOUT_MS, type Stage } from './stage.js';

const CONVERGE_DEADLINE_MS = { process: 30_000, docker: 30_000, kubernetes: 90_000, 'small kubernetes': 60_000 };
const LOOK_MS = 60;
const FEWEST = 3;
const MOST = 5;
const STRIKES = 2;
const NAPS = [0, 0, 0.02, 0.1, 0.3];
/** What a call may rightly be answered while something is down. */
const EXCUSED = new Set(['worker_crashed', 'function_not_ready', 'function_overloaded', 'database_unavailable']);

/** Rounds of operations with kills among them, and what must be true after each. */
export class Chaos {
  private readonly ledger = new Ledger();
  private history: string[] = [];
  private began = performance.now();
  private faults: string[] = [];
  private disturbed = new Set<string>();
  private allDisturbed = false;
  private calling = false;
  /** How calls during crashes ended, and how long it took until all was well again. */
  readonly replies = new Map<string, number>();
  readonly recoveries = new Map<string, number[]>();

  constructor(
    private readonly stage: Stage,
    private readonly seed: string,
  ) {}

  async round(number: number): Promise<void> {
    const plan = planRound(this.seed, this.stage.site.engine, number);
    this.begin(`round ${number}: kill ${describePlan(plan)}`);
    try {
      const before = await this.stage.site.workers();
      await this.crash(plan);
      const recovering = performance.now();
      const after = await this.converge();
      this.checkUntouched(before, after);
      const key = describePlan(plan);
      this.recoveries.set(key, [...(this.recoveries.get(key) ?? []), performance.now() - recovering]);
      this.throwFaults();
    } catch (error) {
      throw this.report(error);
    }
  }

  /** Removes every function and sees that nothing is left of any. */
  async finish(): Promise<void> {
    this.begin('the end: remove all');
    try {
      await this.converge();
      const { callers } = this.stage;
      await Promise.all(
        this.ledger.with('present').map((entry, index) => this.remove(entry, callers[index % 2] as Caller)),
      );
      await this.converge();
      const left = this.ledger.with('present', 'removing', 'going');
      if (left.length > 0) this.fault(`${left.length} functions are left after all were removed`);
      this.throwFaults();
    } catch (error) {
      throw this.report(error);
    }
  }

  /** Functions for the tests beside the rounds. */
  async populate(count: number): Promise<Entry[]> {
    this.begin(`upload ${count}`);
    try {
      const plan = planRound(this.seed, this.stage.site.engine, 0);
      const { callers } = this.stage;
      const missing = Math.max(0, count - this.ledger.with('present').length);
      await Promise.all(
        Array.from({ length: missing }, (_, index) =>
          this.upload(newHandler(plan.random), callers[index % 2] as Caller),
        ),
      );
      await this.converge();
      this.throwFaults();
      return this.ledger.with('present');
    } catch (error) {
      throw this.report(error);
    }
  }

  /** Waits until all is as promised and answers the workers there are; in their history under `title`. */
  async settled(title: string): Promise<WorkerView[]> {
    this.begin(title);
    try {
      const workers = await this.converge();
      this.throwFaults();
      return workers;
    } catch (error) {
      throw this.report(error);
    }
  }

  report(error: unknown): Error {
    const parts = [
      (error as Error).message,
      `--- seed ${this.seed} (replay with CRASH_SEED=${this.seed}), engine ${this.stage.site.engine}`,
      ...this.history,
      this.stage.logs(60),
    ];
    return new Error(parts.join('\n'), { cause: error });
  }

  private begin(title: string): void {
    this.began = performance.now();
    this.history = [title];
    this.faults = [];
    this.disturbed = new Set();
    this.allDisturbed = false;
  }

  private note(text: string): void {
    this.history.push(`${(performance.now() - this.began).toFixed(0).padStart(6)} ms  ${text}`);
  }

  private fault(text: string): void {
    this.note(`FAULT ${text}`);
    this.faults.push(text);
  }

  private throwFaults(): void {
    if (this.faults.length > 0) throw new Error(this.faults.join('\n'));
  }

  private async crash(plan: Plan): Promise<void> {
    const { random } = plan;
    this.calling = true;
    const calling = Array.from({ length: plan.callers }, () => this.callOnAndOn(plan));
    const population = this.ledger.with('present').length;
    const { uploads } = plan;
    const removals = population < FEWEST ? [] : plan.removals.slice(0, population > MOST ? undefined : uploads.length);
    const work = [
      ...uploads.map(async ({ at, manager }) => {
        await delay(at);
        await this.upload(newHandler(random), this.stage.callers[manager] as Caller);
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
    this.calling = false;
    await Promise.all(calling);
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
        this.note(`killed manager ${killed.map(({ name }) => name).join(' and ')}`);
        await delay(kill.downFor);
        await Promise.all(killed.map((manager) => manager.start()));
        this.note(`started manager ${killed.map(({ name }) => name).join(' and ')}`);
        return;
      }
      case 'database':
        await postgres.kill();
        this.note('killed the database');
        await delay(kill.downFor);
        await postgres.restart();
        this.note('started the database');
        return;
      case 'engine':
        if (!kill.keepWorkers) this.allDisturbed = true;
        await site.daemon?.kill();
        this.note('killed the engine');
        await delay(kill.downFor);
        await site.daemon?.restart(kill.keepWorkers);
        this.note(`started the engine${kill.keepWorkers ? ', its workers lived on' : ''}`);
        return;
      case 'watches':
        await site.cutWatches?.();
        this.note('cut the watches');
        return;
      case 'worker':
      case 'runner': {
        // The engine may be the other victim of this round; then there is nothing to pick from.
        const workers = await site.workers().catch(() => []);
        if (workers.length === 0) return;
        const worker = random.pick(workers);
        const entry = this.ledger.byId(worker.functionId);
        if (kill.victim === 'worker') {
          this.disturbed.add(worker.functionId);
          if (entry !== undefined) entry.strikes += 1;
        }
        const pid = kill.victim === 'worker' ? worker.pid : worker.runners?.[0];
        if (site.kill !== undefined) await site.kill(worker);
        else if (pid !== undefined) killProcess(pid);
        this.note(`killed the ${kill.victim} of ${worker.functionId} (pid ${pid}, ${worker.replica.slice(0, 12)})`);
      }
    }
  }

  private async upload(handler: Handler, caller: Caller): Promise<void> {
    const entry = this.ledger.add(handler);
    this.note(`upload ${handler.token}`);
    const reply = await caller.upload(handler.code, handler.functionName, CALL_TIMEOUT_MS);
    const fault = this.ledger.uploaded(entry, reply);
    this.note(`upload ${handler.token}: ${entry.id ?? ''} ${shown(reply)}`);
    if (fault !== undefined) this.fault(fault);
  }

  private async remove(entry: Entry, caller: Caller): Promise<void> {
    if (entry.belief !== 'present') return;
    entry.belief = 'removing';
    this.note(`remove ${entry.id}`);
    const reply = await caller.remove(entry.id ?? '');
    const fault = this.ledger.removed(entry, reply);
    this.note(`remove ${entry.id}: ${shown(reply)}`);
    if (fault !== undefined) this.fault(fault);
  }

  private async callOnAndOn({ random }: Plan): Promise<void> {
    while (this.calling) {
      const candidates = this.ledger.with('present', 'removing').filter(({ id }) => id !== undefined);
      const manager = random.integer(0, 1);
      const isUp = this.stage.managers[manager]?.url !== undefined;
      if (isUp && candidates.length > 0) await this.call(random.pick(candidates), manager, random.pick(NAPS));
      await delay(5);
    }
  }

  /** A call while things break: an error is fine where something explains it, a wrong answer or none never is. */
  private async call(entry: Entry, manager: number, nap: number): Promise<void> {
    const text = `${entry.handler.token}-${Math.random()}`;
    const reply = await (this.stage.callers[manager] as Caller).execute(entry.id ?? '', payloadOf(nap, text));
    const isRemoved = entry.belief !== 'present';
    const outcome = reply.kind === 'answer' ? (reply.code ?? String(reply.status)) : reply.kind;
    this.replies.set(outcome, (this.replies.get(outcome) ?? 0) + 1);
    if (reply.kind === 'broken' && reply.excused) return;
    if (reply.kind === 'answer') {
      if (reply.status === 200 && isAnswerOf(entry.handler, text, reply.body)) return;
      if (reply.code !== undefined && EXCUSED.has(reply.code)) return;
      if (isRemoved && (reply.code === 'function_not_found' || reply.code === 'function_not_runnable')) return;
    }
    const what = `a call of ${entry.id} (${entry.belief}) through manager ${this.stage.managers[manager]?.name}`;
    const isWrong = reply.kind === 'answer' && reply.status === 200;
    this.fault(isWrong ? `${what} got a WRONG ANSWER: ${reply.body.toString()}` : `${what} got ${shown(reply)}`);
  }

  /** Looks until everything is as it was promised; what can never become right fails at once. */
  private async converge(): Promise<WorkerView[]> {
    const patienceMs = CONVERGE_DEADLINE_MS[this.stage.site.engine];
    const deadline = performance.now() + patienceMs;
    for (;;) {
      const { unmet, workers } = await this.look();
      if (unmet.length === 0) {
        this.note('converged');
        return workers;
      }
      if (this.faults.length > 0) this.throwFaults();
      if (performance.now() > deadline) {
        throw new Error(`Not converged within ${patienceMs} ms:\n${unmet.join('\n')}`);
      }
      await delay(LOOK_MS);
    }
  }

  private async look(): Promise<{ unmet: string[]; workers: WorkerView[] }> {
    const unmet: string[] = [];
    const rows = await this.rows(unmet);
    if (rows === undefined) return { unmet, workers: [] };
    const ids = new Set(rows.map(({ id }) => id));
    for (const { id, handler } of this.ledger.lost(ids)) this.fault(`LOST: function ${id} (${handler.token}) is gone`);
    for (const row of rows) {
      const entry = this.ledger.byId(row.id) ?? (await this.adopt(row, unmet));
      const objection = this.ledger.objection(row);
      // A refused upload is marked for removal before it is answered; one that wasn't is taken back by no one.
      if (objection !== undefined) this.fault(objection);
      if (entry !== undefined && row.status !== 'running') unmet.push(`function ${row.id} is ${row.status}`);
    }
    const workers = await this.stage.site.workers();
    for (const { id } of rows) {
      const count = workers.filter(({ functionId }) => functionId === id).length;
      if (count !== 1) unmet.push(`function ${id} has ${count} workers`);
    }
    for (const { replica, runners } of workers) {
      if (runners !== undefined && runners.length !== 1) {
        unmet.push(`worker ${replica.slice(0, 12)} has ${runners.length} runners`);
      }
    }
    for (const leak of await this.stage.site.leaks(ids)) unmet.push(`LEAKED: ${leak}`);
    if (unmet.length > 0) return { unmet, workers };
    this.ledger.settle(ids);
    await this.checkFunctions(unmet);
    return { unmet, workers };
  }

  /** The list, which both managers must agree about. */
  private async rows(unmet: string[]): Promise<FunctionRow[] | undefined> {
    const replies = await Promise.all(this.stage.callers.map((caller) => caller.list()));
    const lists = replies.map(rowsOf);
    if (lists.some((list) => list === undefined)) {
      unmet.push(`the list of functions got ${replies.map(shown).join(' and ')}`);
      return undefined;
    }
    const [first, second] = lists.map((list) => JSON.stringify(list?.map(({ id, status }) => `${id} ${status}`)));
    if (first !== second) {
      unmet.push('the managers list different functions');
      return undefined;
    }
    return lists[0];
  }

  /** A listed id that no answer named: an upload that was cut off. Its code tells which. */
  private async adopt({ id, status }: FunctionRow, unmet: string[]): Promise<Entry | undefined> {
    const reply = await (this.stage.callers[0] as Caller).code(id);
    if (reply.kind !== 'answer' || reply.status !== 200) {
      unmet.push(`the code of ${id} (${status}) got ${shown(reply)}`);
      return undefined;
    }
    const token = tokenIn(reply.body);
    const entry = this.ledger.entries.find(({ handler }) => handler.token === token);
    if (entry === undefined || entry.id !== undefined) {
      this.fault(`function ${id} (${status}) is nobody's: ${token}`);
      return undefined;
    }
    entry.id = id;
    this.note(`function ${id} is the ${entry.belief} upload ${token}`);
    return entry;
  }

  /** Each function's file is as it was sent, and each manager gets its answers. */
  private async checkFunctions(unmet: string[]): Promise<void> {
    const { callers, managers } = this.stage;
    await Promise.all(
      this.ledger.with('present').map(async (entry) => {
        const { handler, id = '' } = entry;
        const code = await (callers[0] as Caller).code(id);
        if (code.kind === 'answer' && code.status === 200) {
          if (!code.body.equals(handler.code)) this.fault(`the code of ${id} is not what was uploaded`);
        } else unmet.push(`the code of ${id} got ${shown(code)}`);
        for (const [index, caller] of callers.entries()) {
          const text = `${handler.token}-check-${index}`;
          const reply = await caller.execute(id, payloadOf(0, text));
          const through = `a call of ${id} through manager ${managers[index]?.name}`;
          this.checkReply(handler, text, reply, through, unmet);
        }
      }),
    );
  }

  private checkReply(handler: Handler, text: string, reply: Reply, through: string, unmet: string[]): void {
    if (reply.kind === 'answer' && reply.status === 200) {
      if (!isAnswerOf(handler, text, reply.body)) this.fault(`${through} got a wrong answer: ${reply.body.toString()}`);
    } else {
      this.note(`although all looked well, ${through} got ${shown(reply)}`);
      unmet.push(`${through} got ${shown(reply)}`);
    }
  }

  /** Workers that nobody killed must not have been replaced, whatever else was killed. */
  private checkUntouched(before: readonly WorkerView[], after: readonly WorkerView[]): void {
    if (this.allDisturbed) return;
    for (const worker of before) {
      const now = after.find(({ functionId }) => functionId === worker.functionId);
      if (now === undefined || this.disturbed.has(worker.functionId)) continue;
      if (now.replica !== worker.replica || now.pid !== worker.pid) {
        this.fault(`the healthy worker ${worker.replica.slice(0, 12)} of ${worker.functionId} was replaced`);
      }
    }
  }
}
