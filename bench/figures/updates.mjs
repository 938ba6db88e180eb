import { setTimeout as delay } from 'node:timers/promises';
import { countRow, makeRow } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { callSleeper, openSleepers } from '../stage/sleepers.mjs';
import { untilPoolIsFull } from '../stage/quiet.mjs';
import { untilAsleep } from '../stage/sleep.mjs';

const UPDATES = 20;
const PAUSE_MS = 500;
const CALL_EVERY_MS = 20;
const SPLIT_CALLS = 10_000;
const SPLIT_PERCENT = 90;
const KEYS = 500;
/** Fewer than a function's queue has places for: what is refused tells of no revision. */
const AT_ONCE = 50;
const LIMITS = { update: 80, rollback: 50, warm: 50 };

/**
 * Updates and rollbacks of a function that has 50 calls a second, then the division of its calls between two
 * revisions, with the settings of a new installation, whose pool has been filled. `--share 5` makes a hundred updates
 * and a hundred rollbacks of it, and `--calls` as many more as there are until so many calls were made.
 */
export async function measureUpdates(stage) {
  const { manager, ids } = await openSleepers(stage, 1, { environment: { WARM_POOL_SIZE: 'auto' } });
  const [sleeper] = ids;
  const updated = new Updated(manager, await manager.upload(codeOf(0), { min_replicas: 1 }));
  const load = new Load(updated);
  const count = Math.max(3, Math.round(UPDATES * stage.share));
  const { calls } = stage.options;
  const rounds = [];
  for (let number = 1; number <= count || load.calls < calls; number += 1) {
    await untilAsleep(manager, sleeper);
    await untilSettled(manager);
    const reference = await timed(() => callSleeper(manager, sleeper));
    await untilSettled(manager);
    const update = await updated.measure('POST', 'revisions', codeOf(number).code, number);
    await untilSettled(manager);
    const rollback = await updated.measure('POST', 'rollback', undefined, number - 1);
    await untilSettled(manager);
    // So that the next one goes on from there.
    await updated.measure('POST', 'rollback', undefined, number);
    rounds.push({ update, rollback, reference });
  }
  // Revisions last and last + 1 answer last - 1 and last. Both keep their workers from now on.
  const last = rounds.length;
  await updated.divide(last, last + 1, 50);
  for (const [index, round] of rounds.entries()) {
    round.warm = await updated.toWarm(last + (index % 2));
    await updated.divide(last, last + 1, 50);
    await delay(PAUSE_MS);
  }
  await load.end();
  const split = await splitOf(updated, last, Math.max(1_000, Math.round(SPLIT_CALLS * stage.share)));
  return { rows: rowsOf(stage.engine.name, rounds, load, split), rounds, calls: load.calls, split };
}

/** The function that is updated: its revision n answers n - 1. */
class Updated {
  /** What calls may answer now. */
  allowed = new Set([0]);
  constructor(manager, id) {
    this.manager = manager;
    this.id = id;
  }

  /** Milliseconds from a change to the first answer after it, which must be the right one. */
  measure(method, path, code, result) {
    this.allowed.add(result);
    const body = path === 'revisions' ? { code: String(code) } : { revision: result + 1 };
    return timed(async () => {
      await this.#ask(method, path, body);
      this.allowed = new Set([result]);
      await this.expect(result);
    });
  }

  async divide(first, second, percent) {
    for (const result of [first - 1, second - 1]) this.allowed.add(result);
    const targets = [
      { revision: first, percent },
      { revision: second, percent: 100 - percent },
    ];
    await this.#ask('PUT', 'traffic', { targets });
  }

  /** All calls to one of the revisions that have workers. */
  toWarm(revision) {
    return this.measure('POST', 'rollback', undefined, revision - 1);
  }

  async expect(result) {
    const { status, text } = await this.manager.call(this.id, '');
    if (status !== 200 || JSON.parse(text).result !== result) {
      throw new Error(`A call that must answer ${result} was answered ${status}: ${text}`);
    }
  }

  async call(headers) {
    const url = `${this.manager.origin}/functions/${this.id}/execute`;
    const answer = await fetch(url, { method: 'POST', headers, body: '{"payload":""}' });
    return { status: answer.status, result: (await answer.json()).result };
  }

  /** What a call answers that must succeed. */
  async result(headers) {
    const { status, result } = await this.call(headers);
    if (status !== 200) throw new Error(`A call was answered ${status}.`);
    return result;
  }

  /** The results of calls with these sticky keys, in their order. */
  async ofKeys(keys) {
    const results = [];
    while (results.length < keys.length) {
      const some = keys.slice(results.length, results.length + AT_ONCE);
      results.push(...(await Promise.all(some.map((key) => this.result({ 'X-Faas-Sticky': key })))));
    }
    return results;
  }

  async #ask(method, path, body) {
    const answer = await fetch(`${this.manager.origin}/functions/${this.id}/${path}`, {
      method,
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path} was answered ${answer.status}: ${text}`);
  }
}

/** Calls at a steady rate, whatever becomes of them. */
class Load {
  calls = 0;
  failed = 0;
  wrong = 0;
  #isOver = false;
  #underWay = [];
  constructor(updated) {
    this.done = this.#run(updated);
  }

  async end() {
    this.#isOver = true;
    await this.done;
    await Promise.all(this.#underWay);
  }

  async #run(updated) {
    let next = performance.now();
    while (!this.#isOver) {
      this.#underWay.push(this.#one(updated));
      // After a stall some are made up for, and not so many at once that they find no place.
      next = Math.max(next + CALL_EVERY_MS, performance.now() - (AT_ONCE / 2) * CALL_EVERY_MS);
      await delay(Math.max(0, next - performance.now()));
    }
  }

  async #one(updated) {
    const before = updated.allowed;
    this.calls += 1;
    try {
      const { status, result } = await updated.call();
      if (status !== 200) this.failed += 1;
      else if (!before.has(result) && !updated.allowed.has(result)) this.wrong += 1;
    } catch {
      this.failed += 1;
    }
  }
}

async function splitOf(updated, revision, calls) {
  await updated.divide(revision, revision + 1, SPLIT_PERCENT);
  let first = 0;
  for (let done = 0; done < calls; done += AT_ONCE) {
    const answers = await Promise.all(Array.from({ length: AT_ONCE }, () => updated.result()));
    first += answers.filter((result) => result === revision - 1).length;
  }
  const keys = Array.from({ length: KEYS }, (_, key) => `key ${key}`);
  const [one, other] = [await updated.ofKeys(keys), await updated.ofKeys(keys)];
  const moved = one.filter((result, key) => result !== other[key]).length;
  return { calls, percent: (first / calls) * 100, moved };
}

/** What was measured last is over: the former revision's worker has gone, and the pool has replaced what it gave. */
async function untilSettled(manager) {
  await delay(PAUSE_MS);
  await untilPoolIsFull(manager);
}

async function timed(work) {
  const began = performance.now();
  await work();
  return Math.round((performance.now() - began) * 100) / 100;
}

function codeOf(number) {
  return { code: `def handle(payload):\n    return ${number}\n`, handler: 'handle' };
}

function rowsOf(engine, rounds, { calls, failed, wrong }, split) {
  const row = (figure, name) => {
    const pairs = rounds.map((round) => ({ ours: round[name], reference: round.reference }));
    const most = LIMITS[name];
    const limit = { target: `≤ ${most} ms`, meets: ({ ours }) => ours <= most };
    return makeRow(pairs, {
      figure: `${figure} on ${engine}, p50`,
      unit: 'ms',
      reference: 'a wake beside it',
      ...limit,
    });
  };
  const nothing = { unit: 'calls', target: '0', meets: ({ ours }) => ours === 0 };
  return [
    row('update: request to first answer of the new code', 'update'),
    row('rollback: request to first right answer', 'rollback'),
    row('rollback to a revision that has workers', 'warm'),
    countRow({ figure: `failed, of ${calls} calls meanwhile`, ours: failed, ...nothing }),
    countRow({ figure: 'answered by a revision without traffic', ours: wrong, ...nothing }),
    countRow({
      figure: `calls of ${split.calls} that ${SPLIT_PERCENT} % of the traffic gets`,
      unit: '%',
      ours: Math.round(split.percent * 100) / 100,
      target: `${SPLIT_PERCENT} ± 1 %`,
      meets: ({ ours }) => Math.abs(ours - SPLIT_PERCENT) <= 1,
    }),
    countRow({ figure: 'sticky keys that moved', ours: split.moved, ...nothing }),
    countRow({
      figure: `update, p95`,
      unit: 'ms',
      ours: quantileOf(
        rounds.map(({ update }) => update),
        0.95,
      ),
    }),
  ];
}
