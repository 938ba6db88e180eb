import { setTimeout as delay } from 'node:timers/promises';
import { type Caller, type FunctionRow, type Reply, rowsOf, shown } from './caller.js';
import { answerOf, MOST_REPLICAS, payloadOf, tokenIn } from './handlers.js';
import type { History } from './history.js';
import { Identities } from './identities.js';
import type { Entry, Ledger } from './ledger.js';
import { poolCountsOf } from './pool-counts.js';
import type { WorkerView } from './site.js';
import type { Stage } from './stage.js';

const CONVERGE_DEADLINE_MS = { process: 60_000, docker: 60_000, kubernetes: 90_000, 'small kubernetes': 90_000 };
const LOOK_MS = 60;

/** What must be true once all is well again. */
export class Inspection {
  readonly identities = new Identities();
  /** The most that pools were seen to have given to functions: a manager that is killed counts from its start. */
  given = 0;

  constructor(
    private readonly stage: Stage,
    private readonly ledger: Ledger,
    private readonly history: History,
  ) {}

  /**
   * Looks until everything is as it was promised; what can never become right fails at once.
   *
   * @param pools `filling`: they may go on filling, with no more workers than they are to have in the end
   */
  async converge(pools: 'full' | 'filling'): Promise<WorkerView[]> {
    const patienceMs = CONVERGE_DEADLINE_MS[this.stage.site.engine];
    const deadline = performance.now() + patienceMs;
    for (;;) {
      const { unmet, workers } = await this.look(pools);
      this.history.throwFaults();
      if (unmet.length === 0) {
        this.history.note('converged');
        return workers;
      }
      if (performance.now() > deadline) {
        throw new Error(`Not converged within ${patienceMs} ms:\n${unmet.join('\n')}`);
      }
      await delay(LOOK_MS);
    }
  }

  private async look(pools: 'full' | 'filling'): Promise<{ unmet: string[]; workers: WorkerView[] }> {
    const unmet: string[] = [];
    const rows = await this.rows(unmet);
    if (rows === undefined) return { unmet, workers: [] };
    const ids = new Set(rows.map(({ id }) => id));
    for (const { id, handler } of this.ledger.lost(ids))
      this.history.fault(`LOST: function ${id} (${handler.token}) is gone`);
    for (const row of rows) {
      if (this.ledger.byId(row.id) === undefined) await this.adopt(row, unmet);
      const objection = this.ledger.objection(row);
      // A refused upload is marked for removal before it is answered; one that wasn't is taken back by no one.
      if (objection !== undefined) this.history.fault(objection);
    }
    const workers = await this.stage.site.workers();
    for (const objection of this.identities.objections(workers)) this.history.fault(objection);
    for (const row of rows) await this.checkCount(row, workers, unmet);
    for (const { replica, runners } of workers) {
      if (runners !== undefined && runners.length !== 1) {
        unmet.push(`worker ${replica.slice(0, 12)} has ${runners.length} runners`);
      }
    }
    for (const leak of await this.stage.site.leaks(ids)) unmet.push(`LEAKED: ${leak}`);
    if (unmet.length === 0) await this.checkPools(pools, unmet);
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
  private async adopt({ id, status }: FunctionRow, unmet: string[]): Promise<void> {
    const reply = await (this.stage.callers[0] as Caller).code(id);
    if (reply.kind !== 'answer' || reply.status !== 200) {
      unmet.push(`the code of ${id} (${status}) got ${shown(reply)}`);
      return;
    }
    const token = tokenIn(reply.body);
    const entry = this.ledger.entries.find(({ handler }) => handler.token === token);
    if (entry === undefined || entry.id !== undefined) {
      this.history.fault(`function ${id} (${status}) is nobody's: ${token}`);
      return;
    }
    entry.id = id;
    this.history.note(`function ${id} is the ${entry.belief} upload ${token}`);
  }

  /** Each function has the workers that it says it has, and none is more than it may have. */
  private async checkCount({ id, status }: FunctionRow, workers: readonly WorkerView[], unmet: string[]) {
    const kind = this.ledger.byId(id)?.handler.kind;
    const count = workers.filter(({ functionId }) => functionId === id).length;
    const sleeps = kind === 'sleepy' && status === 'idle';
    if (!sleeps && status !== 'running') unmet.push(`function ${id} is ${status}`);
    else if (count > MOST_REPLICAS[kind ?? 'steady'] || (count === 0) !== sleeps) {
      unmet.push(`function ${id} is ${status} and has ${count} workers`);
    } else if (kind === 'elastic') {
      const reply = await (this.stage.callers[0] as Caller).detail(id);
      const wanted = reply.kind === 'answer' ? (JSON.parse(reply.body.toString('utf8')) as { replicas?: number }) : {};
      if (wanted.replicas !== count) unmet.push(`function ${id} wants ${wanted.replicas} workers and has ${count}`);
    }
  }

  /** Of workers without a function there are exactly those that the managers keep, and they keep what they want. */
  private async checkPools(pools: 'full' | 'filling', unmet: string[]): Promise<void> {
    const { site, managers, callers } = this.stage;
    if (site.pool === undefined) return;
    const counts = await Promise.all(callers.map(poolCountsOf));
    this.given = Math.max(this.given, ...counts.map((pool) => pool?.given ?? 0));
    for (const [index, pool] of counts.entries()) {
      const isFull = pool !== undefined && pool.target >= site.pool.size && pool.ready === pool.target;
      if (pool === undefined || (pools === 'full' && !isFull)) {
        unmet.push(`manager ${managers[index]?.name} keeps ${pool?.ready} of ${pool?.target} workers ready`);
      }
    }
    const waiting = await site.pool.waiting();
    for (const objection of this.identities.objections(waiting)) this.history.fault(objection);
    const known = counts.reduce((sum, pool) => sum + Math.max(pool?.ready ?? 0, pool?.target ?? 0), 0);
    if (waiting.length > known || (pools === 'full' && waiting.length < known)) {
      unmet.push(`LEAKED: ${waiting.length} workers wait for a function, and the managers want ${known}`);
    }
  }

  /** Each function's file is as it was sent, and each manager gets its answers. */
  private async checkFunctions(unmet: string[]): Promise<void> {
    const { callers, managers } = this.stage;
    await Promise.all(
      this.ledger.with('present').map(async (entry) => {
        const { handler, id = '' } = entry;
        const code = await (callers[0] as Caller).code(id);
        if (code.kind === 'answer' && code.status === 200) {
          if (!code.body.equals(handler.code)) this.history.fault(`the code of ${id} is not what was uploaded`);
        } else unmet.push(`the code of ${id} got ${shown(code)}`);
        for (const [index, caller] of callers.entries()) {
          const text = `${handler.token}-check-${index}`;
          const reply = await caller.execute(id, payloadOf(0, text));
          this.checkReply(entry, text, reply, `a call of ${id} through manager ${managers[index]?.name}`, unmet);
        }
      }),
    );
  }

  private checkReply(entry: Entry, text: string, reply: Reply, through: string, unmet: string[]): void {
    if (reply.kind !== 'answer' || reply.status !== 200) {
      this.history.note(`although all looked well, ${through} got ${shown(reply)}`);
      unmet.push(`${through} got ${shown(reply)}`);
      return;
    }
    const answer = answerOf(entry.handler, text, reply.body);
    if (answer === undefined) this.history.fault(`${through} got a wrong answer: ${reply.body.toString()}`);
    const objection = answer && this.identities.objectionTo(entry, answer);
    if (objection !== undefined) this.history.fault(objection);
  }
}
