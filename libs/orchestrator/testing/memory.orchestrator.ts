import { setTimeout as delay } from 'node:timers/promises';
import { type Capabilities, Orchestrator } from '../orchestrator.js';
import { observedOf, planFor, type Standing, withheldOf } from '../replica-plan.js';
import type { ReplicaLog } from '../replica-log.js';
import { specHash } from '../spec-hash.js';
import { faultFor, type FunctionId, type Observed, type Workload } from '../workload.js';
import type { MemoryReplica } from './memory.replica.js';
import { type MemoryFunction, MemoryWorld } from './memory.world.js';

const FOLLOW_INTERVAL_MS = 20;

/**
 * An orchestrator whose replicas live in this process. It passes the contract suite, so that tests of the manager can
 * rely on what they see. Its world has the controls: killing replicas, going down, failing the next operation.
 */
export class MemoryOrchestrator extends Orchestrator {
  readonly engine = 'memory';
  readonly capabilities: Capabilities = {
    scalesItself: false,
    isolates: true,
    largestCodeBytes: Infinity,
    layers: 'mounted',
  };

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
    for (const replica of home.departed) {
      await this.departures.tell(workload.functionId, logOf(replica));
      home.departed.delete(replica);
    }
    if (home.fault !== undefined && home.fault.hash !== hash) home.fault = undefined;
    const fault =
      home.fault?.hash === hash ? { ...home.fault, reason: faultFor(workload, home.fault.reason) } : undefined;
    const withheld = withheldOf(fault, workload, new Date());
    const { start, drain } = planFor(standing(home), hash, workload.replicas, withheld);
    if (start > 0 && fault !== undefined) home.fault = { ...fault, owed: 0 };
    for (let started = 0; started < start; started += 1) this.world.start(this.owner, workload, hash);
    for (const replica of home.replicas) if (drain.includes(replica.id)) replica.drain(workload.limits.timeoutMs);
    const primary = standing(home).find((one) => one.hash === hash)?.replica ?? '';
    return observedOf(standing(home), hash, workload.replicas, primary, fault?.reason);
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

  async logs(functionId: FunctionId, signal: AbortSignal): Promise<ReplicaLog[]> {
    this.world.check('logs', signal);
    const home = this.world.find(this.owner, functionId);
    return home === undefined ? [] : [...home.departed, ...home.replicas].map(logOf);
  }

  async ping(signal: AbortSignal): Promise<void> {
    this.world.check('ping', signal);
  }
}

function logOf(replica: MemoryReplica): ReplicaLog {
  const { id, revision, lines } = replica;
  const isOpen = () => replica.state !== 'ended';
  return {
    replica: id,
    revision,
    isOpen: isOpen(),
    async *lines({ tail, since = '', follow, signal }) {
      for (let shown = Math.max(0, lines.length - tail); !signal.aborted;) {
        const isLast = !follow || !isOpen();
        for (; shown < lines.length; shown += 1) if (lines[shown]!.time >= since) yield lines[shown]!;
        if (isLast) return;
        await delay(FOLLOW_INTERVAL_MS, undefined, { signal }).catch(() => undefined);
      }
    },
  };
}

function standing({ replicas }: MemoryFunction): Standing[] {
  const staying = [...replicas].filter(({ state }) => state !== 'draining');
  return staying.map(({ id, hash, state, address, revision }) => {
    return { replica: id, hash, ready: state === 'ready', address, revision };
  });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = () => reject(signal.reason as Error);
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}
