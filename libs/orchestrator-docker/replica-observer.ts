import { kindOf } from '#libs/orchestrator/generic-worker.js';
import type { PoolMember } from '#libs/orchestrator/warm-pool.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { HealthProber } from '#libs/orchestrator/health-probe.js';
import type { EndpointAddress, FunctionId, WorkloadFault } from '#libs/orchestrator/workload.js';
import type { DockerEngine } from './docker-engine.js';
import type { Claims } from './claims.js';
import { isMissing } from './engine-fault.js';
import { exitFault } from '#libs/orchestrator/exit-fault.js';
import { fromPoolOf, ownedBy } from './labels.js';
import { logLines } from './log-frames.js';
import type { Reach } from './reach.js';
import { addressOf, functionIdOf, type Replica, replicaOf, slotName } from './replica.js';
import type { Seen } from './replica-plan.js';

const LAST_LINES = 60;
const ASK_MS = 500;

interface Note {
  /** This manager started it, so it has seen its whole life. */
  startedHere: boolean;
  /** What the prober knows it by; another address is another probe. */
  probe?: string;
  fault?: WorkloadFault;
  told: boolean;
}

/** Looks at a function's containers and remembers what the engine's list doesn't show of them. */
export class ReplicaObserver {
  private readonly functions = new Map<FunctionId, Map<string, Note>>();

  constructor(
    private readonly engine: DockerEngine,
    private readonly prober: HealthProber,
    private readonly owner: string,
    private readonly network: string,
    private readonly claims: Claims,
    private readonly tokens: WorkerTokens,
  ) {}

  async observe(functionId: FunctionId, spec: string, reach: Reach, signal: AbortSignal): Promise<Seen[]> {
    const replicas = await this.list(functionId, signal);
    this.forgetAllBut(functionId, new Set(replicas.map(({ id }) => id)));
    return Promise.all(replicas.map((replica) => this.see(reachable(replica, reach), spec, reach, signal)));
  }

  async list(functionId: FunctionId, signal: AbortSignal): Promise<Replica[]> {
    const name = [`^/?${slotName(functionId, 1)}(-|$)`];
    const [labelled, named] = await Promise.all([
      this.engine.list(ownedBy(this.owner, functionId), signal),
      this.engine.list(fromPoolOf(this.owner), signal, { name }),
    ]);
    const taken = named.filter((container) => functionIdOf(container) === functionId);
    const claims = await Promise.all(taken.map(({ Id }) => this.claims.of(Id, signal)));
    return [
      ...labelled.map((container) => replicaOf(container)),
      ...taken.map((container, index) => replicaOf(container, claims[index])),
    ];
  }

  /** @param answers where it has answered that it is ready, and to which token */
  started(functionId: FunctionId, id: string, answers?: Pick<PoolMember, 'address' | 'call'>): void {
    const note = this.note(functionId, id);
    note.startedHere = true;
    if (answers === undefined) return;
    note.probe = probeKey(id, answers.address);
    this.prober.track(note.probe, functionId, answers.address, 'ready', answers.call.token);
  }

  markTold(seen: readonly Seen[]): void {
    for (const { replica, fault } of seen) if (fault) this.note(replica.functionId, replica.id).told = true;
  }

  /** A replica of ours that no manager has seen ready can't have a call in flight. */
  isStarting(replica: Replica): boolean {
    const note = this.functions.get(replica.functionId)?.get(replica.id);
    return note?.startedHere === true && this.health(note) === 'starting';
  }

  /** For a replica that is leaving. */
  stopProbing(replica: Replica): void {
    const note = this.functions.get(replica.functionId)?.get(replica.id);
    if (note?.probe !== undefined) this.prober.forget(note.probe);
  }

  forgetAllBut(functionId: FunctionId, there: ReadonlySet<string>): void {
    const notes = this.functions.get(functionId);
    for (const [id, note] of notes ?? []) {
      if (there.has(id)) continue;
      if (note.probe !== undefined) this.prober.forget(note.probe);
      notes?.delete(id);
    }
    if (notes?.size === 0) this.functions.delete(functionId);
  }

  private async see(replica: Replica, spec: string, reach: Reach, signal: AbortSignal): Promise<Seen> {
    const note = this.note(replica.functionId, replica.id);
    if (replica.state === 'running') {
      const address = addressOf(replica, this.network, reach);
      if (address !== undefined && !replica.leaving) await this.probe(replica, note, address);
      const health = this.health(note);
      if (health === 'starting' && address !== undefined && (await this.isGeneric(replica, note, address))) {
        this.stopProbing(replica);
        return { replica: { ...replica, state: 'generic' }, health, told: false };
      }
      const guard = note.probe === undefined ? undefined : this.prober.guard(note.probe);
      return { replica, health, told: false, ...(guard !== undefined && { guard }) };
    }
    if (replica.state === 'ended' && replica.spec === spec && !replica.leaving) {
      const fault = note.fault ?? (await this.whyEnded(replica, note, signal));
      if (fault !== undefined) note.fault = fault;
      this.stopProbing(replica);
      return { replica, health: 'starting', told: note.told, ...(fault !== undefined && { fault }) };
    }
    return { replica, health: 'starting', told: note.told };
  }

  /** Waits for one answer of a replica this manager didn't start: it may have been ready for long. */
  private async probe(replica: Replica, note: Note, address: EndpointAddress): Promise<void> {
    const key = probeKey(replica.id, address);
    const moved = note.probe !== undefined && note.probe !== key;
    if (moved && note.probe !== undefined) this.prober.forget(note.probe);
    note.probe = key;
    this.prober.track(key, replica.functionId, address, 'starting', this.tokens.tokenFor(replica.credential));
    if (moved || !note.startedHere) await this.prober.probed(key);
  }

  /** Taken from the pool by a manager that was killed before it gave it its function. */
  private async isGeneric({ fromPool }: Replica, note: Note, address: EndpointAddress): Promise<boolean> {
    return fromPool && !note.startedHere && (await kindOf(address, false, ASK_MS)) === 'generic';
  }

  private async whyEnded(replica: Replica, note: Note, signal: AbortSignal): Promise<WorkloadFault | undefined> {
    try {
      const [{ State: state }, log] = await Promise.all([
        this.engine.inspect(replica.id, signal),
        this.engine.logTail(replica.id, LAST_LINES, false, signal),
      ]);
      if (state.Running) return undefined;
      return exitFault({
        exitCode: state.ExitCode,
        oomKilled: state.OOMKilled,
        finishedAt: new Date(state.FinishedAt),
        error: state.Error,
        log: logLines(log).map(({ text }) => text),
        neverReady: note.startedHere && this.health(note) === 'starting',
      });
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  private health(note: Note) {
    return note.probe === undefined ? 'starting' : this.prober.health(note.probe);
  }

  private note(functionId: FunctionId, id: string): Note {
    let notes = this.functions.get(functionId);
    if (notes === undefined) this.functions.set(functionId, (notes = new Map<string, Note>()));
    let note = notes.get(id);
    if (note === undefined) notes.set(id, (note = { startedHere: false, told: false }));
    return note;
  }
}

/** One that was started for another way to reach it is none of the wanted ones: it goes once there are others. */
function reachable(replica: Replica, reach: Reach): Replica {
  const isShut = reach === 'published' && replica.state === 'running' && replica.hostPort === 0;
  return isShut ? { ...replica, spec: '' } : replica;
}

function probeKey(id: string, address: EndpointAddress): string {
  return `${id}@${address.kind === 'tcp' ? `${address.host}:${address.port}` : address.path}`;
}
