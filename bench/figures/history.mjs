import { ECHO, ECHO_CALL } from '../reference/handlers.mjs';
import { countRow, makeRow, pick } from '../report/rows.mjs';
import { quantileOf } from '../report/statistics.mjs';
import { cpuMicroseconds } from '../stage/process-use.mjs';
import { COMPILED_SECONDS, inPairs, overStarts } from './pairs.mjs';

const CONNECTIONS = 16;
/** Of each start. Short rounds and several: a disturbance spoils one pair. */
const ROUNDS = { count: 10, seconds: 30 };
const ROUND_SECONDS = 1;
const SEGMENTS = 10;
const PAGES = 200;
const MOST_MS = 50;
/** One row in so many failed, or came over HTTP. */
const RARE = 20_000;

/** What the history costs calls, and how fast it is read when there is much of it. */
export async function measureHistory(stage) {
  const pairs = (await overStarts(stage, measureCost)).flat();
  const pages = await stage.part(measurePages);
  const perSecond = makeRow(pairs.map(pick((side) => side.perSecond)), {
    figure: `throughput with the history, ${CONNECTIONS} connections`,
    reference: 'HISTORY=off',
    unit: 'calls/s',
    target: '≥ 0.97 ×',
    meets: ({ ratio }) => ratio.median >= 0.97,
  });
  const cpu = makeRow(pairs.map(pick((side) => side.cpuPerCall)), {
    figure: 'processor time of the manager per call at that',
    reference: 'HISTORY=off',
    unit: 'µs',
  });
  return { rows: [perSecond, cpu, ...pages], pairs };
}

async function measureCost(stage, isOffFirst) {
  const load = await stage.leanLoad();
  const side = async (HISTORY) => {
    const manager = await stage.manager({ environment: { HISTORY } });
    const target = manager.target(await manager.upload(ECHO, { max_replicas: 1 }));
    return async (seconds = ROUND_SECONDS) => {
      const before = await cpuMicroseconds(manager.pid);
      const answered = await load.round({ target, connections: CONNECTIONS, seconds, ...ECHO_CALL });
      const after = await cpuMicroseconds(manager.pid);
      return { ...answered, cpuPerCall: (after - before) / answered.calls };
    };
  };
  const sides = {};
  for (const HISTORY of isOffFirst ? ['off', 'on'] : ['on', 'off']) sides[HISTORY] = await side(HISTORY);
  for (const warm of Object.values(sides)) await warm(COMPILED_SECONDS);
  return inPairs(stage, ROUNDS, sides.on, sides.off);
}

async function measurePages(stage) {
  const count = Number(stage.options.rows);
  const manager = await stage.manager({ environment: { HISTORY_MOST_ROWS: String(count * 20) } });
  const id = await manager.upload(ECHO);
  await fill(manager, id, count);
  const path = `/functions/${id}/invocations?limit=50`;
  const middle = await idAt(manager, id, 1 / 2);
  const kinds = {
    'a page of 50': path,
    'the same in the middle of them': `${path}&after=${middle}`,
    'the same of those that failed': `${path}&status=failed`,
    'the same of a kind that few are of': `${path}&kind=http`,
    'one call': `/invocations/${middle}`,
    'statistics of a day': `/functions/${id}/statistics?window=1d`,
  };
  const rows = [];
  for (const [figure, asked] of Object.entries(kinds)) {
    const times = [];
    for (let page = 0; page < Math.max(20, PAGES * stage.share); page += 1) {
      const began = performance.now();
      const answer = await fetch(`${manager.origin}${asked}`);
      if (answer.status !== 200) throw new Error(`${asked} was answered ${answer.status}: ${await answer.text()}`);
      await answer.text();
      times.push(performance.now() - began);
    }
    rows.push(
      countRow({
        figure: `${figure}, of ${count / 1_000_000} million calls, p95`,
        unit: 'ms',
        ours: quantileOf(times, 0.95),
        target: `< ${MOST_MS}`,
        meets: ({ ours }) => ours < MOST_MS,
      }),
    );
  }
  return rows;
}

/** As they would have come in a day: half of them of one function, the others of a thousand. */
async function fill(manager, id, count) {
  const [{ number: last }] = await manager.query(
    "SELECT max(number) AS number FROM history_segments WHERE family = 'calls'",
  );
  for (let segment = last + 1; segment <= last + SEGMENTS; segment += 1) {
    const rows = Math.floor(count / SEGMENTS);
    const began = (segment - last - 1) * rows;
    await manager.query(
      `CREATE TABLE calls_${segment} PARTITION OF calls (segment DEFAULT ${segment}) FOR VALUES IN (${segment})`,
    );
    await manager.query(`CREATE TABLE call_payloads_${segment} PARTITION OF call_payloads FOR VALUES IN (${segment})`);
    await manager.query("INSERT INTO history_segments (family, number, rows) VALUES ('calls', $1, $2)", [
      segment,
      rows,
    ]);
    await manager.query(
      `INSERT INTO calls (id, request_bytes, answer_bytes, segment, revision, queue_ms, handler_ms, total_ms, kind, is_cold,
         function_id, request_id, replica, code, detail)
       SELECT (${idOf('number')})::uuid, 17, 14, $2, 1, 0.01, 1.2, 1.4, (number % ${RARE} = 0)::integer, false,
         CASE WHEN number % 2 = 0 THEN $1 ELSE 'other' || lpad((number % 1000)::text, 11, '0') END,
         gen_random_uuid()::text, '4f1c9a4be7d1', CASE WHEN number % ${RARE} = 0 THEN 'handler_error' END,
         CASE WHEN number % ${RARE} = 0 THEN 'ValueError: oh' END
       FROM generate_series($3::bigint, $4::bigint) AS number`,
      [id, segment, began, began + rows - 1],
    );
  }
  await manager.query(
    `INSERT INTO call_minutes (minute, calls, failed, cancelled, cold_starts, segment, revision, function_id, durations)
     SELECT date_trunc('minute', now()) - minute * interval '1 minute', 700, 1, 0, 0, 1, 1, $1,
       ARRAY(SELECT CASE WHEN place > 15 THEN (random() * 60)::integer ELSE 0 END FROM generate_series(1, 27) AS place)
     FROM generate_series(1, 1440) AS minute`,
    [id],
  );
  // As the database does by itself within a minute.
  await manager.query('ANALYZE calls, call_minutes');
}

/** A UUID of version 7 whose time grows by the number. */
function idOf(number) {
  const ms = `(extract(epoch FROM now()) * 1000 - 86400000)::bigint + ${number} / 128`;
  return `regexp_replace(lpad(to_hex(${ms}), 12, '0'), '(.{8})(.{4})', '\\1-\\2') || '-7' || lpad(to_hex(${number} % 128), 3, '0') || '-8' || right(gen_random_uuid()::text, 16)`;
}

async function idAt(manager, id, part) {
  const [{ count }] = await manager.query('SELECT count(*)::integer AS count FROM calls WHERE function_id = $1', [id]);
  const [found] = await manager.query('SELECT id FROM calls WHERE function_id = $1 ORDER BY id OFFSET $2 LIMIT 1', [
    id,
    Math.floor(count * part),
  ]);
  return found.id;
}
