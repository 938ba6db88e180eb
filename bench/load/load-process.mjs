// Sends calls as fast as they are answered, one at a time on each keep-alive connection, in a process of its own so
// that what is measured doesn't wait for it. Takes jobs from its parent, and ends with it.
import { Client } from 'undici';
import { quantile } from '../report/statistics.mjs';

const IDLE_MS = 60_000;
const ANSWER_MS = 30_000;
const HEADERS = ['content-type', 'application/json'];
/** Connections stay open from round to round. */
const open = new Map();

let isStopped = false;

process.on('message', (job) => {
  if (job === 'stop') {
    isStopped = true;
    return;
  }
  isStopped = false;
  round(job).then(
    (result) => process.send({ result }),
    (error) => process.send({ error: error.message }),
  );
});
process.on('disconnect', () => process.exit());

/** A number of calls, or as many as fit into some seconds. */
async function round({
  target,
  connections,
  calls = Infinity,
  seconds = Infinity,
  pauseMs = 0,
  tolerant,
  body,
  result,
  answer,
}) {
  const clients = clientsOf(target, connections);
  const times = new Map();
  const began = performance.now();
  const until = began + seconds * 1000;
  let begun = 0;
  const mayBegin = () => !isStopped && begun < calls && performance.now() < until && (begun += 1) > 0;
  const check = checker(result, answer);
  const ended = (kind, ms) => times.get(kind)?.push(ms) ?? times.set(kind, [ms]);
  const headers = [...HEADERS, ...(target.headers ?? [])];
  const way = { path: target.path, headers, body, pauseMs, mayBegin, ended, check: tolerant ? kindly(check) : check };
  try {
    await Promise.all(clients.map((client) => drive(client, way)));
  } catch (error) {
    for (const client of clients) client.destroy().catch(() => undefined);
    open.delete(keyOf(target));
    throw error;
  }
  const elapsedMs = rounded(performance.now() - began);
  const all = summary([...times.values()].flat(), elapsedMs);
  if (!tolerant) return all;
  return { ...all, kinds: Object.fromEntries([...times].map(([kind, ms]) => [kind, summary(ms, elapsedMs)])) };
}

function summary(times, elapsedMs) {
  const sorted = times.toSorted((a, b) => a - b);
  return {
    calls: times.length,
    elapsedMs,
    perSecond: rounded((times.length / elapsedMs) * 1000),
    p50: rounded(quantile(sorted, 0.5)),
    p99: rounded(quantile(sorted, 0.99)),
  };
}

function drive(client, { path, headers, body, pauseMs, mayBegin, check, ended }) {
  return new Promise((resolve, reject) => {
    const next = () => {
      if (!mayBegin()) {
        resolve();
        return;
      }
      const began = performance.now();
      const chunks = [];
      let status = 0;
      const settle = (error) => {
        try {
          ended(
            check(status, chunks.length === 1 ? chunks[0] : Buffer.concat(chunks), error),
            performance.now() - began,
          );
        } catch (fault) {
          reject(fault);
          return;
        }
        if (pauseMs > 0) setTimeout(next, pauseMs);
        else next();
      };
      client.dispatch(
        { method: 'POST', path, headers, body },
        {
          onRequestStart() {},
          onResponseStart(_, code) {
            status = code;
          },
          onResponseData(_, chunk) {
            chunks.push(chunk);
          },
          onResponseEnd() {
            settle();
          },
          onResponseError(_, error) {
            settle(error);
          },
        },
      );
    };
    next();
  });
}

/** Every answer must be the right one, with that result, or that as a whole: the first is read, the others must be the same bytes. Answers its kind. */
function checker(result, whole) {
  let right;
  return (status, answer, error) => {
    if (error !== undefined) throw error;
    if (status === 200 && right?.equals(answer)) return '200';
    const text = answer.toString('utf8');
    if (status !== 200 || (whole === undefined ? JSON.parse(text).result !== result : text !== whole)) {
      throw new Error(`A call was answered ${status}: ${text.slice(0, 300)}`);
    }
    right = Buffer.from(answer);
    return '200';
  };
}

/** Calls a failure by its name instead of throwing it. */
function kindly(check) {
  return (status, answer, error) => {
    try {
      return check(status, answer, error);
    } catch (fault) {
      if (error !== undefined) return error.code ?? error.name;
      return status === 200 ? `200 with a wrong answer: ${fault.message}` : String(status);
    }
  };
}

function clientsOf(target, connections) {
  const key = keyOf(target);
  const clients = open.get(key) ?? [];
  open.set(key, clients);
  while (clients.length < connections) {
    clients.push(
      new Client(target.origin, {
        pipelining: 1,
        keepAliveTimeout: IDLE_MS,
        keepAliveMaxTimeout: IDLE_MS,
        headersTimeout: ANSWER_MS,
        bodyTimeout: ANSWER_MS,
        ...(target.socketPath === undefined ? {} : { connect: { socketPath: target.socketPath } }),
      }),
    );
  }
  return clients.slice(0, connections);
}

function keyOf({ origin, socketPath = '' }) {
  return `${origin} ${socketPath}`;
}

function rounded(value) {
  return Math.round(value * 1000) / 1000;
}
