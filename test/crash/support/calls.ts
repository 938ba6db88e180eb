import { setTimeout as delay } from 'node:timers/promises';
import { type Caller, type Reply, shown } from './caller.js';
import { answerOf, IDLE_MS, payloadOf } from './handlers.js';
import type { History } from './history.js';
import type { Identities } from './identities.js';
import type { Entry, Ledger } from './ledger.js';
import type { Plan } from './plan.js';
import type { Random } from './random.js';
import type { Stage } from './stage.js';

const NAPS = [0, 0, 0.02, 0.1, 0.3];
/** Some calls last longer than a sleepy function stays awake without any. */
const SLEEPY_NAPS = [0, 0, 0, (1.5 * IDLE_MS) / 1_000];
const RUSH_NAPS = [0.05, 0.1, 0.2];
const RUSH = 3;
/** From well before a function that nobody calls falls asleep until its worker is gone. */
const EARLIEST_MS = IDLE_MS - 150;
const LATEST_MS = IDLE_MS + 450;
/** What a call may rightly be answered while something is down. */
const EXCUSED = new Set(['worker_crashed', 'function_not_ready', 'function_overloaded', 'database_unavailable']);
/** An engine that is killed and comes back takes the network down before the processes: no caller hears of their end. */
const EXCUSED_WITHOUT_NETWORK = 'handler_timeout';
/** A function that lost its workers this often in a short time may be in error for a while. */
const TOO_MANY_STRIKES = 4;

/** The calls of one round, until they are ended. */
export interface Calling {
  end(): Promise<void>;
}

/** Calls while things break: an error is fine where something explains it, a wrong answer or none never is. */
export class Calls {
  /** How they ended. */
  readonly replies = new Map<string, number>();
  private losesNetwork = false;

  constructor(
    private readonly stage: Stage,
    private readonly ledger: Ledger,
    private readonly history: History,
    private readonly identities: Identities,
  ) {}

  begin({ kills, callers, rush, random }: Plan): Calling {
    this.losesNetwork =
      this.stage.site.engine === 'docker' &&
      kills.some(({ victim, keepWorkers }) => victim === 'engine' && !keepWorkers);
    const ending = new AbortController();
    const { signal } = ending;
    const awake = () => this.callable().filter(({ handler }) => handler.kind !== 'sleepy');
    const sleepy = () => this.callable().filter(({ handler }) => handler.kind === 'sleepy');
    const elastic = () => this.callable().filter(({ handler }) => handler.kind === 'elastic');
    const many = (count: number, loop: () => Promise<void>) => Array.from({ length: count }, loop);
    const calling = [
      ...many(callers, () => this.onAndOn(awake, NAPS, () => 5, random, signal)),
      // As they fall asleep, while they wake, and for longer than they stay awake.
      ...many(2, () => this.onAndOn(sleepy, SLEEPY_NAPS, () => random.integer(EARLIEST_MS, LATEST_MS), random, signal)),
      // More than one worker takes at once: a second comes, and goes while others call.
      ...many(rush ? RUSH : 0, () => this.onAndOn(elastic, RUSH_NAPS, () => 5, random, signal)),
    ];
    return {
      end: async () => {
        ending.abort();
        await Promise.all(calling);
      },
    };
  }

  private callable(): Entry[] {
    return this.ledger.with('present', 'removing').filter(({ id }) => id !== undefined);
  }

  private async onAndOn(
    candidates: () => Entry[],
    naps: readonly number[],
    pause: () => number,
    random: Random,
    signal: AbortSignal,
  ): Promise<void> {
    while (!signal.aborted) {
      const manager = random.integer(0, 1);
      const isUp = this.stage.managers[manager]?.url !== undefined;
      const found = candidates();
      if (isUp && found.length > 0) await this.call(random.pick(found), manager, random.pick(naps));
      await delay(pause(), undefined, { signal }).catch(() => undefined);
    }
  }

  private async call(entry: Entry, manager: number, nap: number): Promise<void> {
    const text = `${entry.handler.token}-${Math.random()}`;
    const reply = await (this.stage.callers[manager] as Caller).execute(entry.id ?? '', payloadOf(nap, text));
    const outcome = reply.kind === 'answer' ? (reply.code ?? String(reply.status)) : reply.kind;
    this.replies.set(outcome, (this.replies.get(outcome) ?? 0) + 1);
    if (isExcused(entry, reply)) return;
    if (this.losesNetwork && outcome === EXCUSED_WITHOUT_NETWORK) return;
    const what = `a call of ${entry.id} (${entry.belief}) through manager ${this.stage.managers[manager]?.name}`;
    if (reply.kind !== 'answer' || reply.status !== 200) {
      this.history.fault(`${what} got ${shown(reply)}`);
      return;
    }
    const answer = answerOf(entry.handler, text, reply.body);
    if (answer === undefined) this.history.fault(`${what} got a WRONG ANSWER: ${reply.body.toString()}`);
    const objection = answer && this.identities.objectionTo(entry, answer);
    if (objection !== undefined) this.history.fault(objection);
  }
}

function isExcused({ belief, strikes }: Entry, reply: Reply): boolean {
  if (reply.kind === 'broken') return reply.excused;
  if (reply.kind !== 'answer' || reply.code === undefined) return false;
  if (EXCUSED.has(reply.code)) return true;
  if (reply.code === 'function_not_runnable') return belief !== 'present' || strikes >= TOO_MANY_STRIKES;
  return reply.code === 'function_not_found' && belief !== 'present';
}
