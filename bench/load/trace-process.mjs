// Sends calls to several managers in turn: one for each new function, as fast as they are answered, or those of a trace,
// each at its moment whether the ones before are answered or not.
import { setTimeout as delay } from 'node:timers/promises';
import { Pool } from 'undici';
import { functionId } from '../stage/fill.mjs';
import { quantile } from '../report/statistics.mjs';
import { traceOf } from './trace.mjs';

const CONNECTIONS = 256;
const BODY = '{"payload":"hello"}';
const ANSWER = '{"result":"hello"}';
const TICK_MS = 2;
/** So many calls may wait for their answers; the others of a trace count as failed. */
const MOST_WAITING = 2_000;

let pools = [];

process.on('message', ({ origins, wakes, trace }) => {
  pools = origins.map((origin) => new Pool(origin, { connections: CONNECTIONS, pipelining: 1 }));
  const work = wakes === undefined ? replay(trace) : wakeAll(wakes);
  void work.then(async (result) => {
    await Promise.all(pools.map((pool) => pool.close()));
    process.send(result);
  });
});
process.on('disconnect', () => process.exit());

/** `callers` at once, each with the next function when it is answered; begins with the function of this rank. */
async function wakeAll({ first, callers, seconds }) {
  const tally = new Tally();
  const until = performance.now() + seconds * 1_000;
  let next = first;
  const caller = async () => {
    while (performance.now() < until) await call(next++, tally);
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return { ...tally.summary(), next };
}

async function replay(trace) {
  const tally = new Tally();
  const calls = new Set();
  const began = performance.now();
  for (const { at, rank } of traceOf(trace)) {
    while (performance.now() - began < at * 1_000) await delay(TICK_MS);
    if (calls.size >= MOST_WAITING) {
      tally.note(0, 'not sent: too many wait already', {});
      continue;
    }
    const one = call(rank, tally).finally(() => calls.delete(one));
    calls.add(one);
  }
  await Promise.all(calls);
  return tally.summary();
}

async function call(rank, tally) {
  const began = performance.now();
  const pool = pools[tally.begun++ % pools.length];
  try {
    const { statusCode, headers, body } = await pool.request({
      method: 'POST',
      path: `/functions/${functionId(rank + 1)}/execute`,
      headers: { 'content-type': 'application/json' },
      body: BODY,
    });
    const text = await body.text();
    const isRight = statusCode === 200 && text === ANSWER;
    tally.note(performance.now() - began, isRight ? undefined : `${statusCode} ${text.slice(0, 120)}`, headers);
  } catch (error) {
    tally.note(performance.now() - began, error.message, {});
  }
}

class Tally {
  begun = 0;
  #began = performance.now();
  #all = [];
  #cold = [];
  #faults = new Map();

  note(ms, fault, headers) {
    if (fault !== undefined) this.#faults.set(fault, (this.#faults.get(fault) ?? 0) + 1);
    else {
      this.#all.push(ms);
      if (headers['x-cold-start'] === 'true') this.#cold.push(ms);
    }
  }

  summary() {
    const seconds = (performance.now() - this.#began) / 1_000;
    const errors = [...this.#faults.values()].reduce((sum, count) => sum + count, 0);
    return {
      seconds,
      calls: this.#all.length,
      errors,
      faults: Object.fromEntries(this.#faults),
      all: times(this.#all),
      cold: times(this.#cold),
    };
  }
}

function times(values) {
  if (values.length === 0) return undefined;
  const sorted = values.toSorted((a, b) => a - b);
  return { count: sorted.length, p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) };
}
