import { type Command, Option } from 'commander';
import type { AttemptDto, InvocationDto, ListInvocationsData } from '../client/index.js';
import { command, nameIn } from '../command.js';
import { answered, connect, SOON } from '../connection.js';
import { integer } from '../deploy/settings.js';
import { Failure } from '../failure.js';
import { nextOf } from '../functions/list.command.js';
import { sinceOf } from '../logs/logs.command.js';
import { type Output, printable } from '../output.js';

type Query = NonNullable<ListInvocationsData['query']>;

const LIMIT = 50;
const PAGE = 1_000;
/** The manager looks at 10,000 calls for a page: who seeks among more than a million is told where to go on. */
const MOST_PAGES = 100;
const STATUSES: readonly InvocationDto['status'][] = ['waiting', 'running', 'succeeded', 'failed', 'dead', 'cancelled'];
const KINDS: readonly NonNullable<InvocationDto['kind']>[] = ['execute', 'http', 'later', 'schedule', 'run'];
const HEAD = ['CALL', 'TIME', 'KIND', 'STATUS', 'ATTEMPT', 'REVISION', 'MS', 'WHY'];
const ATTEMPTS_HEAD = ['ATTEMPT', 'TIME', 'STATUS', 'REVISION', 'REPLICA', 'QUEUE MS', 'COLD MS', 'HANDLER MS', 'WHY'];

interface Options extends Query {
  readonly call?: string;
  readonly limit: number;
}

export function addHistory(program: Command): void {
  const made = command(program, 'history', "list a function's calls, the newest first, or show one")
    .argument('[ref]', "the function's name or id", nameIn)
    .option('--call <id>', 'shows this call with its attempts, in place of a list', nameIn)
    .addOption(new Option('--status <status>', 'those of this status').choices(STATUSES))
    .addOption(new Option('--kind <kind>', 'those that came in so').choices(KINDS))
    .option('--revision <n>', 'those of one revision', integer)
    .option('--code <code>', 'those that failed so, such as handler_error')
    .option('--since <when>', 'none that came before this: 90s, 10m, 2h, 1d, or an RFC 3339 time', (text) =>
      sinceOf(text),
    )
    .option('--until <when>', 'those that came before this', (text) => sinceOf(text))
    .option('-n, --limit <n>', 'at most so many', integer, LIMIT)
    .option('--after <call>', 'those that are older than this call, where another list ended', nameIn)
    .action(async (ref: string | undefined, { call, ...options }: Options) => {
      const output = made.output();
      if (ref !== undefined && call === undefined) return list(ref, options, output);
      if (ref === undefined && call !== undefined) return show(call, output);
      throw new Failure('usage', 'Name a function, or a call by --call ID.');
    });
}

async function list(ref: string, options: Options, output: Output): Promise<void> {
  const { status, kind, revision, code, since, until, limit, after } = options;
  const { client, api } = await connect(SOON);
  const found: InvocationDto[] = [];
  let next = after;
  let pages = 0;
  do {
    const most = Math.min(limit - found.length, PAGE);
    const query = { status, kind, revision, code, since, until, after: next, limit: most };
    const { data, response } = await answered(api.listInvocations({ client, path: { id: ref }, query }));
    found.push(...data);
    next = nextOf(response.headers.get('link'));
    pages++;
  } while (next !== undefined && found.length < limit && pages < MOST_PAGES);
  output.show(found, () => output.table(HEAD, found.map(rowOf)));
  if (next !== undefined) output.note(`There are older ones: add --after ${next}`);
}

async function show(id: string, output: Output): Promise<void> {
  const { client, api } = await connect(SOON);
  const { data } = await answered(api.getInvocation({ client, path: { id } }));
  output.show(data, () => described(data, output));
}

function rowOf(call: InvocationDto): string[] {
  const { id, created_at: createdAt, kind = '', revision, error } = call;
  const why = error === null ? '' : `${error.code}: ${error.detail}`;
  return [id, createdAt, kind, statusOf(call), attemptOf(call), String(revision ?? ''), durationOf(call), why];
}

/** What a handler has answered over HTTP says more than that it has. */
function statusOf({ status, http_status: answered, response }: InvocationDto): string {
  const code = answered ?? response?.status;
  return code === undefined ? status : `${status}, ${code}`;
}

/** A call at once has one, and says how long it took. */
function attemptOf({ duration_ms: duration, attempt, max_attempts: most }: InvocationDto): string {
  return duration === undefined ? `${attempt} of ${most}` : '';
}

/** Of a call for later its last attempt's. */
function durationOf({ duration_ms: duration, started_at: started, ended_at: ended }: InvocationDto): string {
  if (duration !== undefined) return String(duration);
  return started === null || ended === null ? '' : String(Date.parse(ended) - Date.parse(started));
}

function described(call: InvocationDto, output: Output): string {
  const { error, attempts = [] } = call;
  const lines = [output.fields([...fieldsOf(call, output), ...contentsOf(call)])];
  if (error !== null) lines.push(`${output.paint('red', 'error')} (${error.code}): ${printable(error.detail)}`);
  if (attempts.length > 0) lines.push(output.table(ATTEMPTS_HEAD, attempts.map(attemptRowOf)));
  return lines.join('\n');
}

function fieldsOf(call: InvocationDto, output: Output): [string, string][] {
  const { http, schedule, callback, queue_ms: queue, cold_start_ms: coldStart, handler_ms: handler } = call;
  const plain = (text: string | null | undefined) => output.plain(text ?? '');
  const waits = queue === undefined ? '' : ` (queue ${queue}, cold start ${coldStart}, handler ${handler})`;
  const duration = durationOf(call);
  return [
    ['call', call.id],
    ['function', call.function_id],
    ['kind', call.kind ?? ''],
    ['status', statusOf(call)],
    ['attempt', attemptOf(call)],
    ['revision', String(call.revision ?? '')],
    ['replica', plain(call.replica)],
    ['created', call.created_at],
    ['by', plain(call.created_by)],
    ['due', call.status === 'waiting' ? call.due_at : ''],
    ['started', call.started_at ?? ''],
    ['ended', call.ended_at ?? ''],
    ['took', duration === '' ? '' : `${duration} ms${waits}`],
    ['request', plain(call.request_id)],
    ['idempotency key', plain(call.idempotency_key)],
    ['schedule', schedule === null ? '' : `${schedule}, for ${call.scheduled_for}`],
    ['http', http === null ? '' : plain(`${http.method} ${http.path}`)],
    ['callback', callback === null ? '' : plain([callback.url, callback.status, callback.error].join(' ').trim())],
  ];
}

/** Where they are kept. */
function contentsOf(call: InvocationDto): [string, string][] {
  const { payload, payload_bytes: sent, result, result_bytes: got, response } = call;
  const answer = response === undefined ? result : (response.body ?? response.body_base64);
  const size = got === null ? '' : `${got} bytes`;
  const text = answer === undefined ? size : typeof answer === 'string' ? answer : JSON.stringify(answer);
  return [
    ['payload', printable(payload ?? `${sent} bytes`)],
    ['result', printable(text)],
  ];
}

function attemptRowOf(one: AttemptDto): string[] {
  const { attempt, started_at: startedAt, status, revision, replica, code, detail } = one;
  const times = [one.queue_ms, one.cold_start_ms, one.handler_ms].map(String);
  const why = code === null ? '' : `${code}: ${detail ?? ''}`;
  return [String(attempt), startedAt, status, String(revision ?? ''), replica ?? '', ...times, why];
}
