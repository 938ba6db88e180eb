import { setTimeout as delay } from 'node:timers/promises';
import type { GetFunctionLogsData, LogRecordDto, MissedLinesDto } from '../client/index.js';
import { answered, connect } from '../connection.js';
import { Failure } from '../failure.js';
import type { Output } from '../output.js';
import { eventsOf, linesOf } from './event-stream.js';

type Query = NonNullable<GetFunctionLogsData['query']>;
type Line = LogRecordDto | MissedLinesDto;
type Body = AsyncIterable<Uint8Array>;

/** The manager sends a comment every 15 seconds. */
const BOUNDS = { idleMs: 45_000 };
const GIVE_UP_MS = 60_000;
const PAUSE_MS = 1_000;

export async function readLogs(ref: string, query: Query, isFollowed: boolean, output: Output): Promise<void> {
  output.endWithReader();
  if (isFollowed) return follow(ref, query, output);
  for await (const line of linesOf(uncut(await open(ref, query)))) await print(line, output);
}

/** Goes on where a connection ended, until the function is removed or no manager answers for a minute. */
async function follow(ref: string, query: Query, output: Output): Promise<void> {
  const followed = { ...query, follow: true };
  let body: Body | undefined = await open(ref, followed);
  let last: string | undefined;
  while (body !== undefined) {
    for await (const { id, data } of eventsOf(untilCut(body))) {
      await print(data, output);
      last = id ?? last;
    }
    body = await reopen(ref, followed, last);
  }
  output.note(`${ref} was removed.`);
}

/** Undefined where the function is there no more. */
async function reopen(ref: string, query: Query, last: string | undefined): Promise<Body | undefined> {
  const until = performance.now() + GIVE_UP_MS;
  for (;;) {
    await delay(PAUSE_MS);
    try {
      return await open(ref, query, last);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (error.kind === 'not_found') return undefined;
      if (error.kind !== 'unavailable' || performance.now() > until) throw error;
    }
  }
}

async function* uncut(body: Body): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure('unavailable', `The log was cut off: ${(error as Error).message}.`);
  }
}

/** One that is cut off is one that has ended: the next goes on from there. */
async function* untilCut(body: Body): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch {
    // Nothing is lost.
  }
}

async function open(ref: string, query: Query, last?: string): Promise<Body> {
  const { client, api } = await connect(BOUNDS);
  const headers = {
    Accept: query.follow === true ? 'text/event-stream' : 'application/x-ndjson',
    ...(last !== undefined && { 'Last-Event-ID': last }),
  };
  const asking = api.getFunctionLogs({ client, path: { id: ref }, query, headers, parseAs: 'stream' });
  const { response } = await answered(asking);
  if (response.body === null) throw new Failure('unexpected', 'The answer has no body.');
  return response.body;
}

async function print(line: string, output: Output): Promise<void> {
  const record = JSON.parse(line) as Line;
  if (!output.showLine(record, () => described(record, output))) await output.drained();
}

function described(record: Line, output: Output): string {
  if ('missed' in record) return output.paint('yellow', `… ${record.missed} lines are left out here`);
  const { time, replica, revision, stream, source, line } = record;
  // Milliseconds do for people.
  const about = `${time.slice(0, 23)}Z ${replica}${revision === null ? '' : ` r${revision}`}`;
  const colour = source === 'worker' ? 'dim' : stream === 'stderr' ? 'yellow' : undefined;
  return `${output.paint('dim', about)} ${colour === undefined ? line : output.paint(colour, line)}`;
}
