import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { DockerEngine } from './docker-engine.js';
import { jsonLines } from './json-lines.js';
import { LABEL, ownedBy } from './labels.js';
import { functionIdIn } from './replica.js';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const ACTIONS = ['die', 'oom', 'destroy', 'pause', 'unpause'];

interface EngineEvent {
  readonly Actor?: { readonly ID?: string; readonly Attributes?: Readonly<Record<string, string>> };
}

export interface EventSink {
  readonly changed: (functionId: FunctionId, container: string) => void;
  /** The stream was interrupted: anything may have changed meanwhile. */
  readonly resumed: () => void;
}

/** Follows the engine's events about our containers until `signal` aborts, reconnecting as often as needed. */
export async function followEvents(
  engine: DockerEngine,
  owner: string,
  sink: EventSink,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const filters = { type: ['container'], event: ACTIONS, label: ownedBy(owner) };
  let pauseMs = FIRST_PAUSE_MS;
  let interrupted = false;
  while (!signal.aborted) {
    const openedAt = Date.now();
    try {
      const stream = await engine.events(filters, signal);
      if (interrupted) {
        logger.info('following the engine’s events again');
        sink.resumed();
      }
      interrupted = false;
      for await (const event of jsonLines(stream)) report(event as EngineEvent, sink);
      throw new Error('the stream ended');
    } catch (error) {
      if (signal.aborted) return;
      // Once for each interruption, not for each attempt.
      if (!interrupted) logger.warn({ err: error }, 'lost the engine’s events; reconnecting');
      interrupted = true;
    }
    pauseMs = Date.now() - openedAt > LONGEST_PAUSE_MS ? FIRST_PAUSE_MS : Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    await delay(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

function report({ Actor }: EngineEvent, sink: EventSink): void {
  const { [LABEL.functionId]: labelled, name = '' } = Actor?.Attributes ?? {};
  const functionId = labelled ?? functionIdIn(name);
  if (functionId !== undefined) sink.changed(functionId, Actor?.ID ?? '');
}
