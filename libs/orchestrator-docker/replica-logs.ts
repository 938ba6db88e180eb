import type { Readable } from 'node:stream';
import type { LogRange, PlainLine, ReplicaLog } from '#libs/orchestrator/replica-log.js';
import type { DockerEngine } from './docker-engine.js';
import { engineFault, isConflict, isMissing } from './engine-fault.js';
import { LogFrames } from './log-frames.js';
import { RepeatedLines } from './repeated-lines.js';
import type { Replica } from './replica.js';

/** The log of a container, which goes with it. */
export function logOf(
  engine: DockerEngine,
  { id, revision, state }: Pick<Replica, 'id' | 'revision' | 'state'>,
): ReplicaLog {
  return {
    replica: id,
    revision,
    isOpen: state === 'running' || state === 'half',
    lines: (range) => linesOf(engine, id, range),
  };
}

async function* linesOf(engine: DockerEngine, id: string, range: LogRange): AsyncGenerator<PlainLine> {
  const { tail, since, follow, signal } = range;
  if (tail === 0) return;
  const frames = new LogFrames();
  const repeated = new RepeatedLines();
  const seconds = since === undefined ? undefined : `${Math.floor(Date.parse(since) / 1_000)}.${since.slice(20, 29)}`;
  const stream = await engine.logStream(id, { tail, since: seconds, follow }, signal).catch(unlessGone);
  if (stream === undefined) return;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const lines = frames.push(chunk);
      yield* follow ? lines.filter((line) => !repeated.has(line)) : lines;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw engineFault(error) ?? error;
  }
  yield* frames.flush();
}

function unlessGone(error: unknown): Readable | undefined {
  if (isMissing(error) || isConflict(error)) return undefined;
  throw error;
}
