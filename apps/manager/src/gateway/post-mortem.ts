import { within } from '#libs/deadlines/within.js';
import { getHealth } from '#libs/orchestrator/health-probe.js';
import { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { Endpoint, FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { FunctionChanges } from '../functions/function-changes.js';
import { FunctionRepository } from '../functions/function.repository.js';
import type { Cancellation } from './cancellation.js';
import { CallCancelled, type CrashReason, WorkerCrashed } from './errors.js';

const ASK_WORKER_MS = 3_000;
const ASK_ENGINE_MS = 3_000;
/** The worker, then the engine; the second answer is read from the database, which may be slow. */
const LONGEST_MS = 7_000;
const LONGEST_MESSAGE = 1_000;
const REASONS: ReadonlySet<string> = new Set(['out_of_memory', 'signal', 'exit', 'stuck']);

/** Finds out why the connection of a call broke, so that the caller learns the reason. */
@Injectable()
export class PostMortem {
  constructor(
    private readonly repository: FunctionRepository,
    private readonly changes: FunctionChanges,
    private readonly tokens: WorkerTokens,
  ) {}

  /**
   * Asks the runner that follows, then what the engine saw of the replica. Ends within seven seconds, and at once when
   * the call is cancelled, whatever those do. Never throws.
   *
   * @param cut what the connection showed of it, for want of anything better
   */
  async of(
    id: FunctionId,
    endpoint: Endpoint,
    startedAt: Date,
    cancellation: Cancellation,
    cut: string,
  ): Promise<WorkerCrashed | CallCancelled> {
    const leaving = new AbortController();
    if (cancellation.isCancelled) return new CallCancelled();
    cancellation.onCancel(() => leaving.abort());
    try {
      const bounds = { ms: LONGEST_MS, signal: leaving.signal };
      const known = await within('a post mortem', bounds, (signal) => this.examine(id, endpoint, startedAt, signal));
      return known ?? unexplained(cut);
    } catch {
      return cancellation.isCancelled ? new CallCancelled() : unexplained(cut);
    } finally {
      cancellation.onCancel(undefined);
    }
  }

  private async examine(
    id: FunctionId,
    endpoint: Endpoint,
    startedAt: Date,
    signal: AbortSignal,
  ): Promise<WorkerCrashed | undefined> {
    const told = await lastExit(endpoint, this.tokens.tokenFor(endpoint.credential), startedAt, signal);
    if (told) return new WorkerCrashed(told.reason, told.message);
    if (told === undefined) return undefined;
    const look = async () => {
      const row = await this.repository.find(id);
      if (row === null) return 'removed' as const;
      return row.lastFault !== null && Date.parse(row.lastFault.at) >= startedAt.getTime() - 1_000
        ? row.lastFault
        : undefined;
    };
    const fault = await this.changes.until(id, ASK_ENGINE_MS, look, signal);
    if (fault === 'removed') return new WorkerCrashed('exit', 'the function was removed.');
    if (fault) return new WorkerCrashed(fault.code === 'out_of_memory' ? 'out_of_memory' : 'exit', fault.message);
    return undefined;
  }
}

function unexplained(cut: string): WorkerCrashed {
  return new WorkerCrashed('unknown', `the connection to it broke (${cut}).`);
}

/** What the replica's next runner says of the former one: undefined when it says nothing, null when nobody answers. */
async function lastExit(
  endpoint: Endpoint,
  token: string | undefined,
  startedAt: Date,
  signal: AbortSignal,
): Promise<{ reason: CrashReason; message: string } | undefined | null> {
  const health = await getHealth(endpoint.address, ASK_WORKER_MS, token, signal);
  if (health === null) return null;
  const exit = (health as { worker?: { last_exit?: { reason?: unknown; message?: unknown; at?: unknown } | null } })
    .worker?.last_exit;
  if (!exit || typeof exit.reason !== 'string' || !REASONS.has(exit.reason)) return undefined;
  // An exit before the call explains nothing. Clocks on one machine differ by less than a second.
  if (typeof exit.at === 'string' && Date.parse(exit.at) < startedAt.getTime() - 1_000) return undefined;
  // Handler code may answer in place of its worker, with any text of any length.
  const message = typeof exit.message === 'string' ? exit.message.slice(0, LONGEST_MESSAGE) : exit.reason;
  return { reason: exit.reason as CrashReason, message };
}
