import { setTimeout as delay } from 'node:timers/promises';
import { ECHO } from '../reference/handlers.mjs';
import { countRow } from '../report/rows.mjs';
import { Child } from '../stage/child.mjs';
import { fillWithFunctions } from '../stage/fill.mjs';
import { ManyManagers } from '../stage/many-managers.mjs';

const FUNCTIONS = 100_000;
const MANAGERS = [1, 2, 4];
const IDLE_TIMEOUT_MS = 3_000;
const WAKES = { callers: 128, seconds: 8 };
const WARM_UP = { callers: 32, seconds: 5 };
/** A "minute" takes five seconds. */
const TRACE = { functions: FUNCTIONS, perSecond: 1_000, seconds: 20, minuteSeconds: 5, peak: 400, seed: 15 };
const LOOK_MS = 250;
const SETTLED_WITHIN_MS = 60_000;
const LIMITS = { wakesPerSecond: 1_000 };

/**
 * What one installation can hold: several managers on one PostgreSQL, with very many functions that sleep and an engine
 * that costs nothing. First as many wakes as possible, each of another function, then the calls of a trace.
 */
export async function measureScale(stage) {
  const site = await ManyManagers.prepare(stage);
  const load = Child.module(new URL('../load/trace-process.mjs', import.meta.url));
  await stage.undo.add(() => load.end());
  await site.start(1);
  await site.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements');
  await fillWithFunctions(site, FUNCTIONS, { ...ECHO, idleTimeoutMs: IDLE_TIMEOUT_MS });
  await site.stop();
  const results = [];
  // Functions that no manager has called so far.
  let first = FUNCTIONS / 2;
  for (const managers of MANAGERS) {
    await site.start(managers);
    await settled(site);
    const wake = async (limits) => {
      const answer = await ask(load, { origins: site.origins, wakes: { ...limits, first } });
      first = answer.next;
      return answer;
    };
    // Managers that have just begun look at all functions once, and their program isn't compiled yet.
    await wake(WARM_UP);
    const seconds = (limits) => ({ ...limits, seconds: Math.max(limits.seconds * stage.share, 2) });
    const wakes = await observed(site, () => wake(seconds(WAKES)));
    const trace = await observed(site, () => ask(load, { origins: site.origins, trace: seconds(TRACE) }));
    const settledMs = await settled(site);
    results.push({ managers, wakes, trace, settledMs, memory: await site.memory(), tables: await tables(site) });
    await site.stop();
    const [most, steady] = [wakes, trace].map(({ wakesPerSecond }) => Math.round(wakesPerSecond));
    console.log(`• ${managers} of them: ${most} wakes/s at most, ${steady} by the trace`);
  }
  return { rows: results.flatMap(rowsOf), results };
}

function ask(load, question) {
  return load.ask('The load', question);
}

/** Does `work` and tells what it cost everybody. */
async function observed(site, work) {
  const client = await site.connect();
  const heard = {};
  client.on('notification', ({ channel }) => (heard[channel] = (heard[channel] ?? 0) + 1));
  for (const channel of ['faas_due', 'faas_changed']) await client.query(`LISTEN ${channel}`);
  await client.query('SELECT pg_stat_statements_reset()');
  const before = await look(site);
  let mostDue = 0;
  const over = new AbortController();
  const watch = async () => {
    while (!over.signal.aborted) {
      const { rows } = await client.query(
        `/* bench */ SELECT count(*)::integer AS due FROM functions
         WHERE reconcile_at <= now() AND (lease_until IS NULL OR lease_until < now())`,
      );
      mostDue = Math.max(mostDue, rows[0].due);
      await delay(LOOK_MS);
    }
  };
  const watching = watch();
  const answer = await work().finally(() => over.abort());
  const after = await look(site);
  await watching;
  const { rows: statements } = await client.query(
    `SELECT calls::float8, (total_plan_time + total_exec_time) * 1000 AS "µs", rows::float8,
       left(regexp_replace(query, '\\s+', ' ', 'g'), 160) AS query
     FROM pg_stat_statements WHERE query NOT LIKE '%bench%' AND query NOT LIKE '%pg_stat%'
     ORDER BY total_plan_time + total_exec_time DESC`,
  );
  await client.end();
  const passed = (pick) => pick(after) - pick(before);
  const wakes = passed(({ wakes }) => wakes);
  const ms = passed(({ at }) => at);
  const count = statements.reduce((sum, { calls }) => sum + calls, 0);
  const cpu = (who) => passed((seen) => seen.cpu[who]);
  return {
    ...answer,
    wakesPerSecond: (wakes / ms) * 1_000,
    stepsPerSecond: (passed(({ steps }) => steps) / ms) * 1_000,
    callsPerSecond: (answer.calls / ms) * 1_000,
    statementsPerSecond: (count / ms) * 1_000,
    commitsPerSecond: (passed(({ commits }) => commits) / ms) * 1_000,
    notificationsPerSecond: (Object.values(heard).reduce((sum, one) => sum + one, 0) / ms) * 1_000,
    mostDue,
    cores: Object.fromEntries(Object.keys(after.cpu).map((who) => [who, cpu(who) / ms / 1_000])),
    perWake: {
      statements: count / wakes,
      notifications: Object.fromEntries(Object.entries(heard).map(([channel, one]) => [channel, one / wakes])),
      µs: Object.fromEntries(Object.keys(after.cpu).map((who) => [who, cpu(who) / wakes])),
    },
    statements: statements.slice(0, 12),
  };
}

async function look(site) {
  const [{ commits }] = await site.query(
    'SELECT xact_commit::float8 AS commits FROM pg_stat_database WHERE datname = current_database()',
  );
  const [wakes, steps] = [
    await site.counter('faas_wakes_total'),
    await site.counter('faas_reconcile_duration_seconds_count'),
  ];
  return { commits, wakes, steps, cpu: await site.cpu(), at: performance.now() };
}

async function tables(site) {
  return site.query(
    `SELECT relname AS name, n_live_tup::float8 AS live, n_dead_tup::float8 AS dead,
       pg_table_size(relid)::float8 AS "tableBytes", pg_indexes_size(relid)::float8 AS "indexBytes"
     FROM pg_stat_user_tables ORDER BY 4 DESC LIMIT 3`,
  );
}

/** Until no step is due and nothing is awake. */
async function settled(site) {
  const began = performance.now();
  for (;;) {
    const [{ left }] = await site.query(
      'SELECT count(*)::integer AS left FROM functions WHERE replicas > 0 OR reconcile_at <= now()',
    );
    const took = Math.round(performance.now() - began);
    if (left === 0) return took;
    if (took > SETTLED_WITHIN_MS) throw new Error(`${left} functions were still due or awake after ${took} ms.`);
    await delay(LOOK_MS);
  }
}

function rowsOf({ managers, wakes, trace, memory }) {
  const who = `${FUNCTIONS} functions, ${managers} ${managers === 1 ? 'manager' : 'managers'}`;
  const row = (name, ours, unit, limit = {}) => countRow({ figure: `${who}: ${name}`, ours, unit, ...limit });
  const { wakesPerSecond } = LIMITS;
  const parts = (name, { cold, all, errors, ...rest }) => [
    row(
      `${name}, wakes`,
      rest.wakesPerSecond,
      'wakes/s',
      name === 'wakes only'
        ? {
            target: `≥ ${wakesPerSecond}`,
            meets: ({ ours }) => ours >= wakesPerSecond,
          }
        : {},
    ),
    row(`${name}, steps`, rest.stepsPerSecond, 'steps/s'),
    row(`${name}, calls`, rest.callsPerSecond, 'calls/s'),
    row(`${name}, calls that woke a function, p50`, cold?.p50 ?? 0, 'ms'),
    row(`${name}, calls that woke a function, p99`, cold?.p99 ?? 0, 'ms'),
    row(`${name}, all calls, p50`, all?.p50 ?? 0, 'ms'),
    row(`${name}, all calls, p99`, all?.p99 ?? 0, 'ms'),
    row(`${name}, calls that failed`, errors, ''),
    row(`${name}, notifications to each manager`, rest.notificationsPerSecond, '/s'),
    row(`${name}, statements`, rest.statementsPerSecond, '/s'),
    row(`${name}, most rows due at once`, rest.mostDue, ''),
    row(`${name}, processors of PostgreSQL`, rest.cores.postgres, ''),
    row(`${name}, processors of the managers`, rest.cores.managers, ''),
    row(`${name}, statements per wake`, rest.perWake.statements, ''),
  ];
  const most = (kind) => Math.max(...memory.map((one) => one[kind] ?? 0)) / 1024 ** 2;
  return [
    ...parts('wakes only', wakes),
    ...parts('trace', trace),
    row('memory of a manager, most', most('all'), 'MiB'),
    row('live heap of a manager, most', most('live'), 'MiB'),
  ];
}
