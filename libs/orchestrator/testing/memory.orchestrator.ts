import { setTimeout as delay } from 'node:timers/promises';
import { Orchestrator } from '../orchestrator.js';
import { specHash } from '../spec-hash.js';
import type { FunctionId, LogLine, LogOptions, Observed, Workload } from '../workload.js';
import type { MemoryReplica } from './memory.replica.js';
import { type MemoryFunction, MemoryWorld } from './memory.world.js';

const FOLLOW_INTERVAL_MS = 20;

/**
 * An orchestrator whose replicas live in this process. It passes the contract suite, so that tests of the manager can
 * rely on what they see. Its world has the controls: killing replicas, going down, failing the next operation.
 */
export class MemoryOrchestrator extends Orchestrator {
  readonly engine = 'memory';
  readonly capabilities = { scalesItself: false, isolates: true, largestCodeBytes: Infinity };

  constructor(
    readonly world: MemoryWorld = new MemoryWorld(),
    readonly owner = 'memory',
  ) {
    super();
  }

  async ensure(workload: Workload, signal: AbortSignal): Promise<Observed> {
    this.world.check('ensure', signal);
    const home = this.world.findOrCreate(this.owner, workload.functionId);
    const hash = specHash(workload);
    const wanted = () => [...home.replicas].filter((one) => one.hash === hash && one.state !== 'draining');
    const allowed = workload.replicas - withheldOf(home, workload, hash);
    if (wanted().length < allowed && home.fault?.hash === hash) home.fault = { ...home.fault, owed: 0 };
    for (let n = wanted().length; n < allowed; n += 1) this.world.start(this.owner, workload, hash);
    for (const surplus of wanted().slice(workload.replicas)) surplus.drain(workload.limits.timeoutMs);
    const ready = wanted().filter(({ state }) => state === 'ready');
    if (ready.length === workload.replicas) {
      for (const former of formerOf(home, hash)) former.drain(workload.limits.timeoutMs);
    }
    return observe(home, hash, workload.replicas);
  }

  async remove(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    this.world.check('remove', signal);
    const home = this.world.find(this.owner, functionId);
    if (home === undefined) return;
    const leaving = [...home.replicas];
    for (const replica of leaving) replica.drain(graceMs);
    await Promise.race([Promise.all(leaving.map(({ ended }) => ended)), aborted(signal)]);
    this.world.delete(this.owner, functionId);
  }

  async list(signal: AbortSignal): Promise<FunctionId[]> {
    this.world.check('list', signal);
    return this.world.functionsOf(this.owner);
  }

  async watch(onChange: (functionId: FunctionId | undefined) => void, signal: AbortSignal): Promise<void> {
    for await (const functionId of this.world.changes(this.owner, signal)) onChange(functionId);
  }

  async *logs(functionId: FunctionId, { tail, follow, signal }: LogOptions): AsyncIterable<LogLine> {
    const shown = new Map<MemoryReplica, number>();
    for (let first = true; !signal.aborted; first = false) {
      for (const replica of this.world.find(this.owner, functionId)?.replicas ?? []) {
        const from = shown.get(replica) ?? (first ? Math.max(0, replica.lines.length - tail) : 0);
        shown.set(replica, replica.lines.length);
        yield* replica.lines.slice(from);
      }
      if (!follow) return;
      await delay(FOLLOW_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async ping(signal: AbortSignal): Promise<void> {
    this.world.check('ping', signal);
  }
}

/** Replicas that may not be started now: all when the code can't be loaded, those that ended while backing off. */
function withheldOf({ fault }: MemoryFunction, { replaceEndedFrom }: Workload, hash: string): number {
  if (fault?.hash !== hash) return 0;
  if (fault.reason.terminal) return Infinity;
  return replaceEndedFrom !== undefined && new Date() < replaceEndedFrom ? fault.owed : 0;
}

function formerOf(home: MemoryFunction, hash: string): MemoryReplica[] {
  return [...home.replicas].filter((one) => one.hash !== hash && one.state !== 'draining');
}

function observe(home: MemoryFunction, hash: string, wanted: number): Observed {
  const replicas = [...home.replicas].filter((one) => one.hash === hash && one.state !== 'draining');
  const ready = replicas.filter(({ state }) => state === 'ready');
  const former = formerOf(home, hash).filter(({ state }) => state === 'ready');
  const serving = ready.length < wanted ? [...ready, ...former] : ready;
  const seen = {
    replicas: replicas.length,
    ready: ready.length,
    endpoints: serving.map(({ id, address }) => ({ replica: id, address })),
    primary: replicas[0]?.id ?? '',
    hostPort: 0,
  };
  if (home.fault?.hash === hash) return { ...seen, reason: home.fault.reason };
  if (ready.length >= wanted) return seen;
  return {
    ...seen,
    reason: { code: 'starting', message: 'The worker is starting.', terminal: false, at: new Date() },
  };
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = () => reject(signal.reason as Error);
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}
