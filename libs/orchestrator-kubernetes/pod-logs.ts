import type { Readable } from 'node:stream';
import {
  LineSplitter,
  type LogRange,
  type PlainLine,
  type ReplicaLog,
  timeOf,
} from '#libs/orchestrator/replica-log.js';
import { ApiRefusal } from './api-fault.js';
import type { KubeApi } from './kube-api.js';
import { CONTAINER } from './names.js';
import { type Replica, replicaId, revisionOf } from './replica.js';

/** The log of a pod's container, and of the one that ran in it before, which the node keeps as well. */
export function logsOf(api: KubeApi, replica: Replica): ReplicaLog[] {
  const { name, id, pod, status, running } = replica;
  const log = (of: string, isOpen: boolean, query: Record<string, string>): ReplicaLog => ({
    replica: of,
    revision: revisionOf(pod),
    isOpen,
    lines: (range) => linesOf(api, name, query, range),
  });
  const former = status?.lastState?.terminated?.containerID;
  const current = log(id, running || status?.state?.waiting !== undefined, {});
  // In a pause between two restarts the former one is still the current one.
  if (former === undefined || replicaId(name, former) === id) return [current];
  return [log(replicaId(name, former), false, { previous: 'true' }), current];
}

async function* linesOf(
  api: KubeApi,
  pod: string,
  further: Record<string, string>,
  { tail, since, follow, signal }: LogRange,
): AsyncGenerator<PlainLine> {
  if (tail === 0) return;
  const query = {
    container: CONTAINER,
    timestamps: 'true',
    tailLines: String(tail),
    ...(since !== undefined && { sinceTime: since }),
    ...(follow && { follow: 'true' }),
    ...further,
  };
  const stream = await api.logStream(pod, query, signal).catch(unlessNone);
  if (stream === undefined) return;
  const splitter = new LineSplitter();
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    for (const text of splitter.push(chunk)) yield* sinceThen(text, since);
  }
  for (const text of splitter.flush()) yield* sinceThen(text, since);
}

/** The node counts in whole seconds. It keeps both streams as one. */
function* sinceThen(text: string, since = ''): Generator<PlainLine> {
  const space = text.indexOf(' ');
  const time = timeOf(text.slice(0, space));
  if (time !== undefined && time >= since) yield { time, stream: undefined, text: text.slice(space + 1) };
}

/** The pod is gone, or its container has not begun. */
function unlessNone(error: unknown): Readable | undefined {
  if (error instanceof ApiRefusal) return undefined;
  throw error;
}
