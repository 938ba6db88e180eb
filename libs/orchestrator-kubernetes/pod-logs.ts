import { setTimeout as delay } from 'node:timers/promises';
import { createInterface } from 'node:readline';
import type { FunctionId, LogLine, LogOptions } from '#libs/orchestrator/workload.js';
import { ApiRefusal } from './api-fault.js';
import type { KubeApi } from './kube-api.js';
import { CONTAINER } from './names.js';
import type { Replica } from './replica.js';

const LOOK_AGAIN_MS = 1_000;

type ListReplicas = (functionId: FunctionId) => readonly Replica[];

/** The newest lines of all of a function's pods, in the order of their times. */
export async function* newestLines(
  api: KubeApi,
  list: ListReplicas,
  functionId: FunctionId,
  { tail, signal }: LogOptions,
): AsyncGenerator<LogLine> {
  const logs = await Promise.all(
    list(functionId).map(async ({ name, id }) => {
      const text = await api.log(name, query(tail), signal).catch(noLogYet);
      return text.split('\n').flatMap((line) => lineOf(line, id) ?? []);
    }),
  );
  yield* logs.flat().toSorted((a, b) => a.at.getTime() - b.at.getTime());
}

/** The newest lines, then new ones as they come, also of pods that start later; ends when the signal aborts. */
export async function* followLines(
  api: KubeApi,
  list: ListReplicas,
  functionId: FunctionId,
  options: LogOptions,
): AsyncGenerator<LogLine> {
  const reading = new AbortController();
  const signal = AbortSignal.any([options.signal, reading.signal]);
  const lines: LogLine[] = [];
  let arrived = Promise.withResolvers<void>();
  const put = (line: LogLine) => {
    lines.push(line);
    arrived.resolve();
  };
  signal.addEventListener('abort', () => arrived.resolve(), { once: true });
  void attachAll(api, () => list(functionId), options.tail, put, signal);
  try {
    while (!signal.aborted) {
      await arrived.promise;
      arrived = Promise.withResolvers<void>();
      yield* lines.splice(0);
    }
  } finally {
    reading.abort();
  }
}

async function attachAll(
  api: KubeApi,
  list: () => readonly Replica[],
  tail: number,
  put: (line: LogLine) => void,
  signal: AbortSignal,
): Promise<void> {
  const reading = new Set<string>();
  const readUntil = new Map<string, Date>();
  let lines: Record<string, string> = query(tail);
  while (!signal.aborted) {
    for (const { id, name, status } of list()) {
      if (reading.has(id) || status?.state?.running === undefined) continue;
      const since = readUntil.get(id);
      reading.add(id);
      const keep = (line: LogLine) => {
        if (since !== undefined && line.at <= since) return;
        readUntil.set(id, line.at);
        put(line);
      };
      const asked = since === undefined ? lines : { ...query(), sinceTime: since.toISOString() };
      void attach(api, name, id, asked, keep, signal).finally(() => reading.delete(id));
    }
    lines = query();
    await delay(LOOK_AGAIN_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function attach(
  api: KubeApi,
  pod: string,
  id: string,
  lines: Record<string, string>,
  put: (line: LogLine) => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    const input = await api.followLog(pod, lines, signal);
    for await (const text of createInterface({ input, crlfDelay: Infinity })) {
      const line = lineOf(text, id);
      if (line !== undefined) put(line);
    }
  } catch {
    // It ended, or the API server is away: a replica that still runs is attached again.
  }
}

function query(tail?: number): Record<string, string> {
  return { container: CONTAINER, timestamps: 'true', ...(tail !== undefined && { tailLines: String(tail) }) };
}

/** Kubernetes keeps both streams in one. */
function lineOf(line: string, replica: string): LogLine | undefined {
  const space = line.indexOf(' ');
  const at = new Date(line.slice(0, space));
  if (space === -1 || Number.isNaN(at.getTime())) return undefined;
  return { replica, at, stream: 'stdout', text: line.slice(space + 1) };
}

function noLogYet(error: unknown): string {
  if (error instanceof ApiRefusal) return '';
  throw error;
}
