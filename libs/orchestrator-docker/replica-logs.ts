import { setTimeout as delay } from 'node:timers/promises';
import type { FunctionId, LogLine, LogOptions } from '#libs/orchestrator/workload.js';
import type { DockerEngine } from './docker-engine.js';
import { isMissing } from './engine-fault.js';
import { LogFrames, logLines } from './log-frames.js';
import type { Replica } from './replica.js';

const LOOK_AGAIN_MS = 1_000;
const ALL = 2 ** 31 - 1;

type ListReplicas = (functionId: FunctionId, signal: AbortSignal) => Promise<Replica[]>;

/** The newest lines of all of a function's replicas, in the order of their times. */
export async function* newestLines(
  engine: DockerEngine,
  list: ListReplicas,
  functionId: FunctionId,
  { tail, signal }: LogOptions,
): AsyncGenerator<LogLine> {
  const replicas = await list(functionId, signal);
  const logs = await Promise.all(replicas.map(({ id }) => readTail(engine, id, tail, signal)));
  yield* logs.flat().toSorted(byTime);
}

async function readTail(engine: DockerEngine, id: string, tail: number, signal: AbortSignal): Promise<LogLine[]> {
  try {
    return logLines(await engine.logTail(id, tail, true, signal)).map((line) => ({ ...line, replica: id }));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function byTime(a: LogLine, b: LogLine): number {
  return a.at.getTime() - b.at.getTime();
}

/** The newest lines, then new ones as they come, also of replicas that start later; ends when the signal aborts. */
export async function* followLines(
  engine: DockerEngine,
  list: ListReplicas,
  functionId: FunctionId,
  options: LogOptions,
): AsyncGenerator<LogLine> {
  const reading = new AbortController();
  const signal = AbortSignal.any([options.signal, reading.signal]);
  const inbox = new Inbox();
  signal.addEventListener('abort', () => inbox.wake(), { once: true });
  void attachAll(engine, list, functionId, options.tail, inbox, signal);
  try {
    while (!signal.aborted) {
      yield* inbox.take();
      await inbox.arrival();
    }
  } finally {
    reading.abort();
  }
}

/** Lines waiting for the reader. */
class Inbox {
  private lines: LogLine[] = [];
  private arrived = Promise.withResolvers<void>();

  put(lines: LogLine[]): void {
    this.lines.push(...lines);
    if (lines.length > 0) this.wake();
  }

  wake(): void {
    this.arrived.resolve();
  }

  async arrival(): Promise<void> {
    await this.arrived.promise;
    this.arrived = Promise.withResolvers<void>();
  }

  take(): LogLine[] {
    const lines = this.lines.toSorted(byTime);
    this.lines = [];
    return lines;
  }
}

async function attachAll(
  engine: DockerEngine,
  list: ListReplicas,
  functionId: FunctionId,
  tail: number,
  inbox: Inbox,
  signal: AbortSignal,
): Promise<void> {
  const attached = new Set<string>();
  let wanted = tail;
  while (!signal.aborted) {
    // An engine that is away comes back; following goes on then.
    const replicas = await list(functionId, signal).catch(() => []);
    for (const { id, state } of replicas) {
      if (attached.has(id) || state === 'half' || state === 'gone') continue;
      attached.add(id);
      void attach(engine, id, wanted, inbox, signal).catch(() => attached.delete(id));
    }
    wanted = ALL;
    await delay(LOOK_AGAIN_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function attach(
  engine: DockerEngine,
  id: string,
  tail: number,
  inbox: Inbox,
  signal: AbortSignal,
): Promise<void> {
  const frames = new LogFrames();
  for await (const chunk of await engine.logStream(id, tail, signal)) {
    inbox.put(frames.push(chunk as Buffer).map((line) => ({ ...line, replica: id })));
  }
  inbox.put(frames.flush().map((line) => ({ ...line, replica: id })));
}
