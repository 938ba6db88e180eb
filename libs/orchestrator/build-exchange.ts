import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { within } from '#libs/deadlines/within.js';
import type { OneTimeToken } from './generic-worker.js';
import {
  BuildFailed,
  type BuildRequest,
  type BuildRules,
  type Built,
  jobFor,
  largestArchive,
  reportIn,
} from './layers.js';
import type { LayersConfig } from '#libs/config/config.js';
import type { EndpointAddress } from './workload.js';

/** Of a line that the builder prints, a report or a lock. */
const LARGEST_LINE_BYTES = 8 * 1024 * 1024;
const RETRY_MS = 10;
const ANSWER_MS = 10_000;
/** From its start until it listens. */
const LISTEN_MS = 60_000;
const NEWLINE = 10;
/** It doesn't listen yet, or its address isn't known yet; a port that the engine publishes resets what comes too soon. */
const EARLY: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'EPIPE']);

/** What the builder sends at last (`apps/worker/faas_builder/server.py`); code of a source distribution may have made it up. */
export interface Outcome {
  /** The builder's report, as it has written it. */
  readonly report: string;
  readonly lock: string;
  readonly archive: () => Readable;
}

export type TcpAddress = EndpointAddress & { readonly kind: 'tcp' };

/** The connection ended before there was a result: whatever builds has ended. */
export class BuildCutOff extends Error {}

/** It has not even taken its job. */
export class JobNotTaken extends BuildCutOff {}

export interface ExchangeOptions {
  readonly job: string;
  readonly onLine: (line: string) => void;
  readonly rules: Pick<BuildRules, 'timeoutMs' | 'largestMiB' | 'mostFiles'>;
  /** Whether the builder can't take a job any more. */
  readonly hasEnded: () => boolean;
}

interface BuildOptions extends Omit<ExchangeOptions, 'job'> {
  readonly request: BuildRequest;
  readonly wheels?: string | undefined;
  readonly rules: LayersConfig;
}

/**
 * Has one builder build, and calls `keep` with what came of it; however that ends, the build ends with it. Throws
 * {@link BuildCutOff} or {@link BuildFailed}.
 *
 * @param wheels the folder where the builder finds some; undefined: none
 */
export async function builtAt<T>(
  address: TcpAddress,
  token: Pick<OneTimeToken, 'token'>,
  { request, wheels, rules, ...options }: BuildOptions,
  keep: (built: Built) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const leaving = new AbortController();
  const ending = AbortSignal.any([signal, leaving.signal]);
  const job = jobFor(request, rules, { uv: '', cache: '', wheels });
  try {
    const { report, lock, archive } = await exchange(address, token, { ...options, job, rules }, ending);
    return await keep({ ...reportIn(report, rules), lock, archive: () => Promise.resolve(archive()) });
  } finally {
    leaving.abort();
  }
}

/**
 * Has one builder do one job, all of it in one exchange, with which the build ends: tells `onLine` what is printed, and
 * answers when there is a result. The archive can be read until the signal aborts. Throws {@link BuildCutOff}, or
 * {@link BuildFailed} when it takes too long.
 */
export async function exchange(
  address: TcpAddress,
  token: Pick<OneTimeToken, 'token'>,
  options: ExchangeOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  const { timeoutMs } = options.rules;
  const over = AbortSignal.timeout(timeoutMs);
  const giveUp = new AbortController();
  const work = converse(address, token, options, AbortSignal.any([signal, giveUp.signal]));
  try {
    return await within('a build', { signal: AbortSignal.any([signal, over]) }, () => work);
  } catch (error) {
    giveUp.abort();
    work.catch(() => undefined);
    signal.throwIfAborted();
    if (!over.aborted) throw error;
    throw new BuildFailed('timed_out', `The build took longer than ${timeoutMs} ms (BUILD_TIMEOUT_MS).`);
  }
}

async function converse(
  address: TcpAddress,
  { token }: Pick<OneTimeToken, 'token'>,
  { job, onLine, rules, hasEnded }: ExchangeOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  const most = largestArchive(rules);
  const reply = new Reply(await ask(address, token, job, hasEnded, signal));
  for (;;) {
    const said = messageIn(await reply.line());
    if (typeof said.line === 'string') onLine(said.line);
    if (said.result === undefined) continue;
    const { lock, archive: bytes } = said;
    if (typeof lock !== 'string' || !Number.isSafeInteger(bytes) || (bytes as number) > most) {
      throw new BuildCutOff('The build left something else than what it is for.');
    }
    return { report: JSON.stringify(said.result), lock, archive: () => reply.archive(bytes as number) };
  }
}

async function ask(
  { host, port }: TcpAddress,
  token: string,
  job: string,
  hasEnded: () => boolean,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const until = Date.now() + LISTEN_MS;
  const headers = { Authorization: `Bearer ${token}`, 'Content-Length': Buffer.byteLength(job) };
  for (;;) {
    signal.throwIfAborted();
    // Nobody answers, or refuses, at the address of one that is gone.
    if (hasEnded()) throw new JobNotTaken('The builder has ended.');
    const outgoing = request({ host, port, method: 'POST', path: '/build', headers, agent: false, signal });
    // An abort may come when nothing else listens.
    outgoing.on('error', () => undefined);
    // It answers as soon as it has its job.
    const unheard = setTimeout(() => {
      outgoing.destroy(new Error(`The builder can't be reached at ${host}:${port}.`));
    }, ANSWER_MS);
    try {
      outgoing.end(job);
      const [response] = (await once(outgoing, 'response', { signal })) as [IncomingMessage];
      if (response.statusCode === 200) return response;
      response.destroy();
      throw new JobNotTaken(`The builder refused its job with ${response.statusCode}.`);
    } catch (error) {
      signal.throwIfAborted();
      const { code, message } = error as NodeJS.ErrnoException;
      if (error instanceof BuildCutOff) throw error;
      if (!EARLY.has(code ?? '') || Date.now() > until) throw new JobNotTaken(message, { cause: error });
      await delay(RETRY_MS, undefined, { signal });
    } finally {
      clearTimeout(unheard);
    }
  }
}

interface Message {
  readonly line?: unknown;
  readonly result?: unknown;
  readonly lock?: unknown;
  readonly archive?: unknown;
}

function messageIn(line: Buffer): Message {
  const message: unknown = JSON.parse(line.toString('utf8'));
  return typeof message === 'object' && message !== null ? message : {};
}

/** Lines, and then bytes. */
class Reply {
  private rest: Buffer = Buffer.alloc(0);
  private readonly chunks: AsyncIterator<Buffer>;

  constructor(response: IncomingMessage) {
    this.chunks = (response as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  async line(): Promise<Buffer> {
    for (let searched = 0; ;) {
      const end = this.rest.indexOf(NEWLINE, searched);
      if (end !== -1) {
        const line = this.rest.subarray(0, end);
        this.rest = this.rest.subarray(end + 1);
        return line;
      }
      searched = this.rest.length;
      if (searched > LARGEST_LINE_BYTES) throw new BuildCutOff('The build sends a line without end.');
      const { value, done } = await this.next();
      if (done === true) throw new BuildCutOff('The build has ended without a result.');
      this.rest = Buffer.concat([this.rest, value]);
    }
  }

  archive(bytes: number): Readable {
    return Readable.from(this.exactly(bytes), { objectMode: false });
  }

  private async *exactly(bytes: number): AsyncGenerator<Buffer> {
    let left = bytes;
    for (let chunk: Buffer = this.rest; left > 0;) {
      left -= chunk.length;
      if (left < 0) throw new BuildCutOff('The build sends more than it has announced.');
      if (chunk.length > 0) yield chunk;
      if (left === 0) return;
      const { value, done } = await this.next();
      if (done === true) throw new BuildCutOff('The build was cut off.');
      chunk = value;
    }
  }

  private async next(): Promise<IteratorResult<Buffer>> {
    try {
      return await this.chunks.next();
    } catch (error) {
      throw new BuildCutOff('The build was cut off.', { cause: error });
    }
  }
}
