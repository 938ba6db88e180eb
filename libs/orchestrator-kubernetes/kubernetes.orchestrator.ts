import { isDeepStrictEqual } from 'node:util';
import type { V1Deployment } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { type KubernetesConfig, NO_POOL, type PoolConfig } from '#libs/config/config.js';
import { settled } from '#libs/deadlines/within.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { fetchedLayer } from '#libs/orchestrator/layer-server.js';
import type { FetchedLayer, LayerEngine } from '#libs/orchestrator/layers.js';
import { type Capabilities, Orchestrator, type PoolReport } from '#libs/orchestrator/orchestrator.js';
import type { ReplicaLog } from '#libs/orchestrator/replica-log.js';
import { specHash } from '#libs/orchestrator/spec-hash.js';
import { WarmPool } from '#libs/orchestrator/warm-pool.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type {
  Endpoint,
  EndpointAddress,
  FunctionId,
  Observed,
  Workload,
  WorkloadFault,
} from '#libs/orchestrator/workload.js';
import { ApiRefusal, ENGINE, isConflict, rejection } from './api-fault.js';
import type { ClusterAccess } from './cluster-access.js';
import { Convergence, NameTaken } from './convergence.js';
import { DepartingPods } from './departing-pods.js';
import { DeploymentEvents } from './deployment-events.js';
import { Terminations } from './terminations.js';
import { ranked, replicaFailure, waitingFault } from './faults.js';
import { OWNED, POD } from './kinds.js';
import { KubeApi } from './kube-api.js';
import { KubernetesLayers } from './kubernetes-layers.js';
import { LABEL, ownedBy } from './labels.js';
import { isAutoscaled, manifestsFor } from './manifests.js';
import { deploymentName } from './names.js';
import { hasNote, notedFault, noteOf } from './noted-fault.js';
import { observedOf, surplusPoolReplicas } from './observe.js';
import { logsOf } from './pod-logs.js';
import { podTemplate } from './pod-template.js';
import { type PoolPod, PoolPods } from './pool-pods.js';
import { Rejections } from './rejections.js';
import { Removal } from './removal.js';
import { podOf, type Replica, replicasOf } from './replica.js';
import { PoolReplicas } from './pool-replicas.js';
import { ClusterCache } from './cluster-cache.js';
import { EndpointRouting } from './endpoint-routing.js';

/** What a ConfigMap can hold: the API server refuses more. */
const LARGEST_CODE_BYTES = 1024 * 1024;
/** After a pod of the pool has begun to serve, so that the call which woke the function goes first. */
const OWN_PODS_AFTER_MS = 100;

/** What replicas are made from, besides the workload itself. */
interface Made {
  readonly spec: string;
  readonly layer: FetchedLayer | undefined;
}

interface Converged {
  readonly deployment: V1Deployment;
  /** The most telling first. */
  readonly faults: readonly WorkloadFault[];
}

/** Runs each function as a Deployment with a Service and an autoscaler, in one namespace of one cluster. */
export class KubernetesOrchestrator extends Orchestrator {
  readonly engine = 'kubernetes';
  readonly capabilities: Capabilities;
  private readonly api: KubeApi;
  private readonly cache: ClusterCache;
  private readonly convergence: Convergence;
  private readonly events: DeploymentEvents;
  private readonly terminations: Terminations;
  private readonly removal: Removal;
  private readonly rejections = new Rejections();
  private readonly routing: EndpointRouting;
  private readonly poolPods: PoolPods;
  private readonly pool: WarmPool<PoolPod>;
  private readonly poolReplicas: PoolReplicas;
  private readonly departing: DepartingPods;
  private readonly builds: KubernetesLayers | undefined;

  /** `owner` names this installation in the namespace; two that share it must differ. */
  constructor(
    private readonly config: KubernetesConfig,
    private readonly owner: string,
    private readonly tokens: WorkerTokens,
    logger: Logger,
    private readonly access: ClusterAccess,
    pool: PoolConfig = NO_POOL,
  ) {
    super();
    this.api = new KubeApi(access, config.namespace);
    this.cache = new ClusterCache(access, this.api, owner, logger);
    this.events = new DeploymentEvents(this.api, logger);
    this.convergence = new Convergence(this.api, this.cache, owner, logger, this.events);
    this.terminations = new Terminations(this.api);
    this.removal = new Removal(this.api, this.cache, owner);
    this.routing = new EndpointRouting(config, access, this.cache, logger);
    const place = { owner, config, limits: pool };
    this.poolPods = new PoolPods(this.api, this.cache, place, tokens, logger);
    // Given their functions straight at their own addresses only: that passes through nobody's hands.
    this.pool = new WarmPool<PoolPod>(this.poolPods, this.routing.routesByName ? 0 : pool.size, logger, pool.leaseMs);
    this.poolReplicas = new PoolReplicas(this.api, this.cache, this.pool, this.poolPods, tokens, place, logger);
    this.departing = new DepartingPods(this.api, this.cache, this.departures);
    const why = whyNoBuilds(config, this.routing.routesByName);
    this.capabilities = {
      scalesItself: true,
      isolates: true,
      largestCodeBytes: LARGEST_CODE_BYTES,
      layers: config.layers?.served === undefined ? 'none' : 'fetched',
      ...(why !== undefined && { buildsNoLayers: why }),
    };
    if (config.layers !== undefined && why === undefined) {
      this.builds = new KubernetesLayers(this.api, this.cache, owner, config, config.layers, logger);
    }
  }

  override get layers(): LayerEngine | undefined {
    return this.builds;
  }

  override get warmPool(): PoolReport {
    return this.pool;
  }

  async ensure(workload: Workload, signal: AbortSignal): Promise<Observed> {
    await this.cache.current(signal);
    this.pool.start();
    this.departing.start();
    const layer = await this.layerOf(workload, signal);
    const spec = this.specOf(workload, layer);
    if (workload.layer !== undefined && layer === undefined) {
      return this.see(workload, spec, this.deploymentOf(workload), [rejection({ message: NO_LAYERS })]);
    }
    const held = this.rejections.held(workload, spec, new Date());
    if (held !== undefined) return this.see(workload, spec, this.deploymentOf(workload), [held]);
    try {
      const observed = await this.step(workload, { spec, layer }, signal);
      this.rejections.forget(workload.functionId);
      return observed;
    } catch (error) {
      if (!(error instanceof ApiRefusal)) throw error;
      // Somebody was faster, as when many objects are counted against one quota: that passes.
      if (isConflict(error) && !(error instanceof NameTaken)) throw unavailable(error);
      const fault = rejection(error);
      this.rejections.note(workload.functionId, spec, fault);
      this.tellRefusal(workload, [fault]);
      const poolReplicas = this.replicasOf(workload.functionId).filter(({ fromPool }) => fromPool);
      await this.poolReplicas.retire(workload, poolReplicas, signal).catch(refused);
      return this.see(workload, spec, this.deploymentOf(workload), [fault]);
    }
  }

  async remove(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    this.rejections.forget(functionId);
    this.convergence.forget(functionId);
    await this.removal.all(functionId, graceMs, signal).catch(refused);
  }

  async list(signal: AbortSignal): Promise<FunctionId[]> {
    const selector = ownedBy(this.owner);
    await this.poolPods.sweep((name) => this.pool.has(name), signal).catch(refused);
    const kinds = [...OWNED, POD];
    const lists = await Promise.all(kinds.map((kind) => this.api.listMetadata(kind, selector, signal).catch(refused)));
    const ids = lists.flatMap(({ items }) =>
      items.flatMap(({ metadata }) => metadata?.labels?.[LABEL.functionId] ?? []),
    );
    return [...new Set(ids)];
  }

  async watch(onChange: (functionId: FunctionId | undefined) => void, signal: AbortSignal): Promise<void> {
    this.pool.start();
    this.departing.start();
    // A new listener for each watch, so that one callback may watch twice. Changes of the pool's own pods are not told.
    await this.cache.follow((functionId) => functionId === '' || onChange(functionId), signal);
  }

  async logs(functionId: FunctionId, signal: AbortSignal): Promise<ReplicaLog[]> {
    await this.cache.current(signal);
    return this.replicasOf(functionId).flatMap((replica) => logsOf(this.api, replica));
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.api.ping(signal).catch(refused);
  }

  /** Pods' addresses are reused, so the pod is looked up; what the informers show is enough for that. */
  override confirms(endpoint: Endpoint): Promise<boolean> {
    const { replica, address } = endpoint;
    const pod = this.cache.pods.find(podOf(replica));
    const there = pod && replicasOf([pod], []).find(({ id }) => id === replica);
    // One that leaves keeps its address until it has ended, and finishes its calls.
    return Promise.resolve(
      this.routing.routesByName || (there?.running === true && isDeepStrictEqual(there.address, address)),
    );
  }

  override reach(endpoint: Endpoint): EndpointAddress {
    return this.routing.to(endpoint);
  }

  /** Ends watches, connections and the pool. Everything else in the cluster goes on. */
  override async close(): Promise<void> {
    this.poolReplicas.close();
    this.departing.close();
    await this.pool.close();
    this.cache.close();
    this.routing.close();
    this.access.close();
  }

  private async step(workload: Workload, made: Made, signal: AbortSignal): Promise<Observed> {
    const { functionId } = workload;
    const { spec, layer } = made;
    const deployment = this.deploymentOf(workload);
    const isWaking = this.isWaking(workload, spec, deployment);
    const served = isWaking
      ? this.poolReplicas.begin(workload, spec, layer, signal)
      : this.poolReplicas.look(functionId);
    // Returns at once: starting the function's own pods now would take the processor from the call that waits.
    if (isWaking && deployment !== undefined && (await served) === true) {
      setTimeout(() => this.cache.hint(functionId), OWN_PODS_AFTER_MS).unref();
      return this.see(workload, spec, deployment, []);
    }
    if (workload.isCalledOnce === true && deployment === undefined) {
      const hasNone = (await served) === undefined && isWaking;
      const once = hasNone ? undefined : await this.seeOnce(workload, spec, signal);
      if (once !== undefined) return once;
    }
    const [{ deployment: applied, faults }] = await settled([this.converge(workload, made, signal), served]);
    await this.poolReplicas.retire(workload, surplusPoolReplicas(workload, spec, this.replicasOf(functionId)), signal);
    return this.see(workload, spec, applied, faults);
  }

  /**
   * What is called once as a pod of the pool runs it: a pod of its own would load the code as well. Undefined where no
   * such pod is sound, so that it needs its own.
   */
  private async seeOnce(workload: Workload, spec: string, signal: AbortSignal): Promise<Observed | undefined> {
    const begun = this.replicasOf(workload.functionId).filter(
      (one) => one.fromPool && one.spec === spec && !one.leaving && !one.ended,
    );
    const ends = await Promise.all(begun.map((replica) => this.terminations.of(replica, signal)));
    const faults = ends.filter((fault) => fault !== undefined);
    const isOver = workload.startsNone === true || faults.some(({ terminal }) => terminal);
    if (!isOver && begun.length === faults.length) return undefined;
    return this.see(workload, spec, undefined, faults);
  }

  private async converge(workload: Workload, { spec, layer }: Made, signal: AbortSignal): Promise<Converged> {
    const { functionId, replicas: wanted } = workload;
    const { owner, config, tokens } = this;
    const manifests = manifestsFor(workload, { owner, spec, config, tokens, layer });
    const applied = await this.convergence.apply(functionId, manifests, signal);
    const replicas = this.replicasOf(functionId);
    const hasServed = workload.hasServed === true || replicas.some((one) => one.spec === spec && one.ready);
    const noted = hasServed ? undefined : notedFault(applied, spec);
    const faults =
      noted === undefined ? ranked(await this.faultsOf(workload, spec, applied, signal), hasServed) : [noted];
    const terminal = faults.find((fault) => fault.terminal);
    let deployment = applied;
    if (noted === undefined && (terminal !== undefined || hasNote(applied))) {
      // What was noted of a spec that was given up goes: should that be wanted again, it is tried again.
      const note = terminal === undefined ? null : noteOf(terminal, spec);
      deployment = await this.convergence.note(applied, note, signal);
    }
    const hopeless = terminal !== undefined && !this.servesFormer(functionId, spec);
    const autoscaled = isAutoscaled(workload, this.config.autoscale);
    deployment = await this.convergence.scale(deployment, { wanted, autoscaled, hopeless }, signal);
    await this.convergence.prune(functionId, manifests, deployment, signal);
    this.tellRefusal(workload, faults);
    return { deployment, faults };
  }

  private tellRefusal(workload: Workload, faults: readonly WorkloadFault[]): void {
    const refusal = faults.find(({ code }) => code === 'rejected');
    if (refusal === undefined) return;
    const { message, at } = refusal;
    this.events.tell(workload.functionId, this.deploymentOf(workload), { change: 'Refused', message, at });
  }

  /** Nothing of it runs or starts: a caller would wait for a new pod's whole start. */
  private isWaking(workload: Workload, spec: string, deployment: V1Deployment | undefined): boolean {
    if (workload.replicas === 0 || workload.startsNone === true) return false;
    if (deployment !== undefined && (deployment.spec?.replicas ?? 1) > 0) return false;
    if (workload.hasServed !== true && deployment !== undefined && notedFault(deployment, spec) !== undefined)
      return false;
    return !this.replicasOf(workload.functionId).some((one) => one.spec === spec && !one.leaving && !one.ended);
  }

  private async see(
    workload: Workload,
    spec: string,
    deployment: V1Deployment | undefined,
    faults: readonly WorkloadFault[],
  ): Promise<Observed> {
    const replicas = this.replicasOf(workload.functionId);
    const observed = observedOf({ workload, spec, deployment, replicas, faults });
    return { ...observed, endpoints: await this.routing.choose(workload.functionId, observed.endpoints) };
  }

  private async faultsOf(
    workload: Workload,
    spec: string,
    deployment: V1Deployment,
    signal: AbortSignal,
  ): Promise<WorkloadFault[]> {
    const now = new Date();
    const made = this.replicasOf(workload.functionId).filter((replica) => replica.spec === spec && !replica.leaving);
    const wanted = made.filter(({ fromPool }) => !fromPool);
    const terminations = await Promise.all(made.map((replica) => this.terminations.of(replica, signal)));
    const waits = wanted
      .filter(({ ready, ended }) => !ready && !ended)
      .map((replica) => waitingFault(replica, this.config.schedulingPatienceMs, now));
    const left = wanted.filter(({ ended }) => !ended).length;
    const failure = left < workload.replicas ? replicaFailure(deployment) : undefined;
    return [...terminations, ...waits, failure].filter((fault) => fault !== undefined);
  }

  private servesFormer(functionId: FunctionId, spec: string): boolean {
    return this.replicasOf(functionId).some((replica) => replica.spec !== spec && replica.ready);
  }

  private replicasOf(functionId: FunctionId): readonly Replica[] {
    const { pods, slices } = this.cache;
    return replicasOf(pods.of(functionId), slices.of(functionId), (id) => this.poolReplicas.answers(id));
  }

  private deploymentOf({ functionId }: Workload): V1Deployment | undefined {
    return this.cache.deployments.get(functionId, deploymentName(functionId));
  }

  /** Names the whole pod, so that another image, class or policy replaces the pods as another revision does. */
  private specOf(workload: Workload, layer: FetchedLayer | undefined): string {
    const { owner, config, tokens } = this;
    return specHash(workload, { pod: podTemplate(workload, { owner, spec: '', config, tokens, layer }) });
  }

  /** Undefined where it has none, and where there is no way for them. */
  private async layerOf({ layer }: Workload, signal: AbortSignal): Promise<FetchedLayer | undefined> {
    const url = this.config.layers?.served?.url;
    return layer === undefined || url === undefined ? undefined : fetchedLayer(layer, url, this.tokens, signal);
  }
}

const NO_LAYERS = 'it has packages, and LAYERS_ADDR and LAYERS_URL, by which workers fetch them, are not set';

/** Of an installation; what has packages already needs the first alone. */
function whyNoBuilds({ layers }: KubernetesConfig, routesByName: boolean): string | undefined {
  if (layers?.served === undefined) return 'LAYERS_ADDR and LAYERS_URL, by which workers fetch packages, are not set';
  if (routesByName) return 'building takes a manager that reaches pods at their own addresses (KUBERNETES_REACH=pod)';
  return layers.wheelsDir === undefined
    ? undefined
    : "a folder of wheels (PYTHON_WHEELS_DIR) can't be had in pods: name an index";
}

/** Where there is no workload to report it on: missing rights, an admission webhook that forbids a deletion. */
function refused(error: unknown): never {
  throw error instanceof ApiRefusal ? unavailable(error) : error;
}

function unavailable(refusal: ApiRefusal): OrchestratorUnavailable {
  return new OrchestratorUnavailable(ENGINE, refusal.message, refusal, 'refused a request');
}
