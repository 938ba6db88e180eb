import type Docker from 'dockerode';
import type { Logger } from 'pino';
import { type DockerConfig, NO_POOL, type PoolConfig } from '#libs/config/config.js';
import { EngineNotConfigured } from '#libs/orchestrator/errors.js';
import { HealthProber } from '#libs/orchestrator/health-probe.js';
import { KeyedMutex } from '#libs/orchestrator/keyed-mutex.js';
import { type Capabilities, type OnReady, Orchestrator, type PoolReport } from '#libs/orchestrator/orchestrator.js';
import type { ReplicaLog } from '#libs/orchestrator/replica-log.js';
import type { LayerEngine } from '#libs/orchestrator/layers.js';
import { specHash } from '#libs/orchestrator/spec-hash.js';
import { WarmPool } from '#libs/orchestrator/warm-pool.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import {
  type Endpoint,
  faultFor,
  type FunctionId,
  type Observed,
  type Workload,
  type WorkloadFault,
} from '#libs/orchestrator/workload.js';
import { settled } from '#libs/deadlines/within.js';
import { Claims } from './claims.js';
import { codeVolumePrefix } from './code-volume.js';
import { ColdStartQueue } from './cold-start-queue.js';
import { HARDENING } from './container-config.js';
import { Drainer } from './drainer.js';
import { DockerEngine } from './docker-engine.js';
import { EngineRefusal, isMissing } from './engine-fault.js';
import { DockerLayers } from './docker-layers.js';
import { followEvents } from './event-stream.js';
import { ImagePulls } from './image-pulls.js';
import { LayerVolume } from './layer-volume.js';
import { ownedBy } from './labels.js';
import { observedOf, seenOf, seenReady } from './observe.js';
import type { Reach } from './reach.js';
import { type PoolContainer, PoolContainers } from './pool-containers.js';
import { addressOf, functionIdOf, hasAddress, type Replica } from './replica.js';
import { logOf } from './replica-logs.js';
import { planReplicas, type Seen } from './replica-plan.js';
import { faultOf, ReplicaStarter } from './replica-starter.js';
import { ReplicaObserver } from './replica-observer.js';
import { type Place, type WarmReplica, WarmStarter } from './warm-starter.js';
import { ImageAwaited, NetworkUnusable, WorkerNetwork } from './worker-network.js';
import { WorkerSeccomp } from './worker-seccomp.js';

const SECOND_HINT_MS = 300;
/** A call waits for this answer. */
const CONFIRM_TIMEOUT_MS = 2_000;

type Tell = ((replica?: WarmReplica) => void) | undefined;
type Listener = (functionId: FunctionId | undefined) => void;

/** What came of starting a replica: it answers already, it can't be, or it is on its way. */
interface Started {
  readonly ready?: WarmReplica;
  readonly fault?: WorkloadFault | undefined;
}

/** Runs workers as containers of one Docker engine, local or remote. */
export class DockerOrchestrator extends Orchestrator {
  readonly engine = 'docker';
  readonly capabilities: Capabilities = {
    scalesItself: false,
    isolates: true,
    largestCodeBytes: Infinity,
    layers: 'mounted',
  };
  private readonly docker: DockerEngine;
  private readonly network: WorkerNetwork;
  private readonly seccomp: WorkerSeccomp;
  private readonly prober = new HealthProber((functionId) => {
    this.coldStarts.ended(functionId);
    this.changed(functionId);
  });
  private readonly coldStarts = new ColdStartQueue((functionId) => this.changed(functionId));
  private readonly observer: ReplicaObserver;
  private readonly images: ImagePulls;
  private readonly starter: ReplicaStarter;
  private readonly claims: Claims;
  private readonly poolContainers: PoolContainers;
  private readonly pool: WarmPool<PoolContainer>;
  private readonly warmStarter: WarmStarter;
  private readonly drainer: Drainer;
  private readonly builds: DockerLayers | undefined;
  private readonly mutex = new KeyedMutex();
  private readonly listeners = new Set<Listener>();
  /** Replicas that have calls before their place is taken. */
  private readonly published = new Map<FunctionId, Pick<Replica, 'id' | 'revision' | 'state'>>();

  /** `owner` names this installation on the engine; two that share an engine must differ. */
  constructor(
    private readonly config: DockerConfig,
    private readonly owner: string,
    tokens: WorkerTokens,
    private readonly logger: Logger,
    docker: Docker,
    pool: PoolConfig = NO_POOL,
  ) {
    super();
    this.docker = new DockerEngine(docker);
    this.network = new WorkerNetwork(this.docker, config, logger);
    this.seccomp = new WorkerSeccomp(this.docker, config.seccomp, logger);
    this.claims = new Claims(this.docker, owner);
    this.observer = new ReplicaObserver(this.docker, this.prober, owner, config.network, this.claims, tokens);
    this.images = new ImagePulls(this.docker, config.registry, logger, (functionId) => this.changed(functionId));
    const { image, network, runtime } = config;
    this.builds = this.openBuilds();
    const layers = this.builds?.volume.volume;
    const placement = { owner, image, network, runtime, ...(layers !== undefined && { layers }) };
    this.starter = new ReplicaStarter(
      this.docker,
      this.images,
      this.network,
      this.seccomp,
      this.observer,
      placement,
      tokens,
      logger,
    );
    this.poolContainers = new PoolContainers(
      this.docker,
      this.network,
      this.seccomp,
      placement,
      pool,
      this.coldStarts,
      tokens,
    );
    this.pool = new WarmPool<PoolContainer>(this.poolContainers, pool.size, logger, pool.leaseMs);
    this.warmStarter = new WarmStarter(
      this.docker,
      this.pool,
      this.poolContainers,
      this.claims,
      this.observer,
      pool,
      logger,
    );
    this.drainer = new Drainer(this.docker, this.observer, this.claims, this.mutex, this.departures, logger);
  }

  override get warmPool(): PoolReport {
    return this.pool;
  }

  override get layers(): LayerEngine | undefined {
    return this.builds;
  }

  /** Sets the rules for workers before the first of them starts. The engine may be away still: that shows later. */
  override async secure(): Promise<void> {
    const looking = this.network.ready();
    if (this.config.firewall.mode !== 'required') {
      looking.catch(() => undefined);
      return;
    }
    await looking.catch((error: unknown) => {
      // Nothing starts before the image is there, and then it shows.
      if (error instanceof ImageAwaited) this.images.absent(this.config.image);
      else if (error instanceof NetworkUnusable) throw new EngineNotConfigured(error.message);
    });
  }

  async ensure(workload: Workload, signal: AbortSignal, onReady?: OnReady): Promise<Observed> {
    const { functionId, revision } = workload;
    const tell =
      onReady &&
      ((replica?: WarmReplica) => {
        if (replica === undefined) this.published.delete(functionId);
        else this.published.set(functionId, { id: replica.id, revision, state: 'running' });
        onReady(replica === undefined ? [] : seenReady(replica, revision).endpoints);
      });
    return this.mutex.run(functionId, signal, () =>
      this.step(workload, signal, tell).finally(() => this.published.delete(functionId)),
    );
  }

  async remove(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    this.coldStarts.leave(functionId);
    await this.mutex.run(functionId, signal, () => this.drainer.removeAll(functionId, graceMs, signal));
  }

  async list(signal: AbortSignal): Promise<FunctionId[]> {
    // Asked for now and then, to find what belongs to no function: such as volumes whose containers a crash has taken.
    const volumes = await this.docker.unusedVolumes(codeVolumePrefix(this.owner), signal);
    await settled(volumes.map((volume) => this.docker.removeVolume(volume, signal)));
    await this.poolContainers.sweep((id) => this.pool.has(id), signal);
    await this.claims.sweep(signal);
    await this.network.freePlaces(signal).catch(unlessRefused);
    const containers = await this.docker.list(ownedBy(this.owner), signal);
    return [...new Set(containers.flatMap((container) => functionIdOf(container) ?? []))];
  }

  async watch(onChange: Listener, signal: AbortSignal): Promise<void> {
    this.pool.start();
    // What it has to warn of is to be known before the first worker starts. An engine that doesn't answer is asked again.
    this.seccomp.profile().catch(() => undefined);
    // A function of its own for each watch, so that the same callback may watch twice.
    const listener: Listener = (functionId) => onChange(functionId);
    this.listeners.add(listener);
    const sink = {
      changed: (functionId: FunctionId, container: string) => {
        this.coldStarts.ended(functionId);
        if (this.drainer.isEnding(container)) return;
        listener(functionId);
        // The engine tells of an end before its own list shows it; whoever looks at once may see it running still.
        setTimeout(() => signal.aborted || listener(functionId), SECOND_HINT_MS).unref();
      },
      resumed: () => {
        this.network.recheck();
        listener(undefined);
      },
    };
    try {
      await followEvents(this.docker, this.owner, sink, this.logger, signal);
    } finally {
      this.listeners.delete(listener);
    }
  }

  async logs(functionId: FunctionId, signal: AbortSignal): Promise<ReplicaLog[]> {
    const published = this.published.get(functionId);
    const replicas = await this.observer.list(functionId, signal);
    const named = replicas.filter(({ id, state }) => state !== 'gone' && id !== published?.id);
    return [...named, ...(published ? [published] : [])].map((replica) => logOf(this.docker, replica));
  }

  override async confirms({ replica, address }: Endpoint, signal: AbortSignal): Promise<boolean> {
    const inspection = await this.docker.inspect(replica, signal, CONFIRM_TIMEOUT_MS).catch(unlessMissing);
    return inspection !== undefined && hasAddress(inspection, this.config.network, address);
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.docker.ping(signal);
  }

  /** Ends timers, pulls and connections. Workers go on; those that drain are taken up by the next manager. */
  override async close(): Promise<void> {
    this.prober.close();
    this.coldStarts.stop();
    this.images.close();
    this.network.close();
    this.drainer.close();
    this.listeners.clear();
    await Promise.all([this.pool.close(), this.builds?.close()]);
  }

  private async step(workload: Workload, signal: AbortSignal, onReady: Tell): Promise<Observed> {
    const { functionId, limits, replicas, formerTimeoutMs = limits.timeoutMs } = workload;
    const { image, network, internal, seccomp, runtime } = this.config;
    const ours = { image, network, internal, seccomp, walls: HARDENING };
    const spec = specHash(workload, runtime === '' ? ours : { ...ours, runtime });
    const graceOf = (replica: Replica) => (replica.spec === spec ? limits.timeoutMs : formerTimeoutMs);
    this.pool.start();
    const place = await this.place(functionId);
    if (place.fault === undefined) {
      const quick = (await this.startAhead(workload, spec, signal, onReady)) ?? this.stillWaits(workload);
      if (quick !== undefined) return quick;
    }
    const look = async () => seenFor(workload, await this.observer.observe(functionId, spec, place.reach, signal));
    const seen = await look();
    const { startsNone = false, replaceEndedFrom } = workload;
    const holdEnded = startsNone || (replaceEndedFrom !== undefined && replaceEndedFrom.getTime() > Date.now());
    const wanted = { ...workload, spec, holdEnded };
    const plan = planReplicas(wanted, seen);

    await settled(plan.discard.map((replica) => this.drainer.discard(replica, signal)));
    await settled(plan.leave.map((replica) => this.drainer.drain(replica, graceOf(replica), signal)));
    if (plan.promote !== undefined) await this.starter.promote(plan.promote, signal);
    // It may have ended because what it imports is gone.
    if (plan.faults.length > 0 && workload.layer !== undefined) this.builds?.volume.forget(workload.layer);
    if (plan.start.length === 0) this.coldStarts.leave(functionId);
    const refused = place.fault !== undefined && plan.start.length > 0 ? [place.fault] : [];
    const start = refused.length > 0 ? [] : plan.start;
    const hasNothing = seen.length === 0;
    const tell = hasNothing ? onReady : undefined;
    const first = plan.keep.length === 0 ? plan.start[0] : undefined;
    const started = await settled(
      start.map((slot) => this.start(workload, spec, { slot, isFirst: slot === first, hasNothing }, signal, tell)),
    );

    this.observer.markTold(seen);
    const tells = {
      wanted: replicas,
      faults: [...plan.faults, ...refused, ...started.flatMap(({ fault }) => fault ?? [])].toSorted(mostTelling),
      addressOf: ({ replica }: Seen) => addressOf(replica, network, place.reach),
    };
    const made = started.flatMap(({ ready }) => (ready === undefined ? [] : [seenOf(ready, workload, spec, network)]));
    const isAsPlanned = plan.discard.length === 0 && plan.promote === undefined;
    if (isAsPlanned && start.length > 0 && made.length === start.length) {
      // What is there now is known, and the calls that wait for it come before what the others are called.
      const after = planReplicas(wanted, [...plan.keep, ...plan.former, ...made]);
      const isUnfinished = after.leave.length > 0 || after.promote !== undefined;
      const observed = observedOf({ ...after, ...tells, leaving: plan.leave.length + after.leave.length });
      return { ...observed, ...(isUnfinished && { isUnfinished }) };
    }

    const after = isAsPlanned && start.length === 0 ? plan : planReplicas(wanted, await look());
    await settled(after.leave.map((replica) => this.drainer.drain(replica, graceOf(replica), signal)));
    if (after.promote !== undefined) await this.starter.promote(after.promote, signal);
    return observedOf({ ...after, ...tells, leaving: after.leave.length + after.discard.length });
  }

  /**
   * A call waits for a function that the engine has nothing of: its first replica is made of a worker that is ready,
   * before anything is asked, and then there is nothing to ask. Were there something after all, it would have the name,
   * and nothing is made here.
   */
  private async startAhead(
    workload: Workload,
    spec: string,
    signal: AbortSignal,
    onReady: Tell,
  ): Promise<Observed | undefined> {
    if (workload.isFresh !== true || workload.replicas === 0 || !this.warmStarter.hasReady) return undefined;
    const warm = await this.startWarm(workload, spec, { slot: 1, isFirst: true }, signal, onReady);
    if (warm?.isReady !== true || workload.replicas > 1) return undefined;
    return seenReady(warm, workload.revision);
  }

  /** Hundreds may wait for a slot: a function without one isn't looked at. */
  private stillWaits({ functionId, replicas }: Workload): Observed | undefined {
    if (replicas === 0 || this.warmStarter.hasReady || !this.coldStarts.hasNothingYet(functionId)) return undefined;
    return { replicas: 0, ready: 0, endpoints: [], primary: '', hostPort: 0, reason: waitingForSlot() };
  }

  private async start(
    workload: Workload,
    spec: string,
    place: Place & { readonly hasNothing: boolean },
    signal: AbortSignal,
    onReady: Tell,
  ): Promise<Started> {
    const { functionId } = workload;
    // A function that waits for a slot was counted among those that asked the pool.
    if (!this.coldStarts.isWaiting(functionId) || this.warmStarter.hasReady) {
      const warm = await this.startWarm(workload, spec, place, signal, onReady);
      if (warm !== undefined) return warm.isReady ? { ready: warm } : {};
    }
    if (!this.coldStarts.begin(functionId, place.hasNothing)) return { fault: waitingForSlot() };
    let isStarted = false;
    try {
      if (workload.layer !== undefined) await this.builds?.volume.ready(workload.layer, signal);
      if (workload.secrets !== undefined) {
        const starting = () => this.warmStarter.startCold(workload, spec, place.slot, signal);
        return { fault: await this.starter.attempted(functionId, starting) };
      }
      const fault = await this.starter.start(workload, spec, place.slot, signal);
      isStarted = fault === undefined;
      return { fault };
    } finally {
      if (!isStarted) this.coldStarts.ended(functionId);
    }
  }

  /** A network that can't be used keeps new replicas from starting and leaves the running ones alone. */
  private async place(functionId: FunctionId): Promise<{ reach: Reach; fault?: WorkloadFault }> {
    try {
      return { reach: await this.network.ready() };
    } catch (error) {
      if (!(error instanceof NetworkUnusable)) throw error;
      const isAwaited = error instanceof ImageAwaited;
      const fault = isAwaited ? this.images.absent(this.config.image, functionId) : faultOf(error.message);
      return { reach: this.network.reach, fault };
    }
  }

  /** The engine tells of a worker that ended before it was renamed under its former name, and lists it late. */
  private async startWarm(...of: Parameters<WarmStarter['start']>): Promise<WarmReplica | undefined> {
    const [{ layer }, , , signal] = of;
    const { hasReady } = this.warmStarter;
    if (layer !== undefined && hasReady) await this.builds?.volume.ready(layer, signal);
    const warm = await this.warmStarter.start(...of);
    // It may have refused the function for want of it.
    if (layer !== undefined && hasReady && warm === undefined) this.builds?.volume.forget(layer);
    if (warm?.isReady === false) setTimeout(() => this.changed(of[0].functionId), SECOND_HINT_MS).unref();
    return warm;
  }

  private openBuilds(): DockerLayers | undefined {
    const { config, owner, docker } = this;
    const { layers } = config;
    if (layers === undefined) return undefined;
    const volume = new LayerVolume(docker, owner, config.image, layers.volume ?? `faas-layers-${owner}`, layers);
    const pull = (image: string, signal: AbortSignal) => this.images.pulled(image, signal);
    return new DockerLayers(docker, config, layers, owner, volume, this.logger, pull, () => this.network.ready());
  }

  private changed(functionId: FunctionId): void {
    for (const listener of this.listeners) listener(functionId);
  }
}

function waitingForSlot(): WorkloadFault {
  return { code: 'starting', message: 'Waiting for a start slot on this host.', terminal: false, at: new Date() };
}

function unlessRefused(error: unknown): undefined {
  if (!(error instanceof EngineRefusal)) throw error;
}

function unlessMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error;
}

/** With faults as they count for the workload. */
function seenFor(workload: Workload, seen: readonly Seen[]): Seen[] {
  return seen.map((one) => (one.fault === undefined ? one : { ...one, fault: faultFor(workload, one.fault) }));
}

/** Terminal before passing, faults before progress, newer before older. */
function mostTelling(a: WorkloadFault, b: WorkloadFault): number {
  return weight(b) - weight(a) || b.at.getTime() - a.at.getTime();
}

function weight({ terminal, code }: WorkloadFault): number {
  if (terminal) return 2;
  return code === 'starting' ? 0 : 1;
}
