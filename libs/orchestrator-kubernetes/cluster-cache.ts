import type {
  KubernetesObject,
  V1Deployment,
  V1EndpointSlice,
  V1Pod,
  V1Service,
  V2HorizontalPodAutoscaler,
} from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { ENGINE } from './api-fault.js';
import type { ClusterAccess } from './cluster-access.js';
import { Informer, type InformerEvents } from './informer.js';
import { AUTOSCALER, CONFIG_MAP, DEPLOYMENT, ENDPOINT_SLICE, type Kind, POD, SERVICE } from './kinds.js';
import type { KubeApi } from './kube-api.js';

type Listener = (functionId: FunctionId | undefined) => void;

const FIRST_SYNC_MS = 15_000;

/** What the cluster has of this owner, as its informers tell: reading it costs no request. */
export class ClusterCache {
  readonly code: Informer<KubernetesObject>;
  readonly services: Informer<V1Service>;
  readonly deployments: Informer<V1Deployment>;
  readonly autoscalers: Informer<V2HorizontalPodAutoscaler>;
  readonly pods: Informer<V1Pod>;
  readonly slices: Informer<V1EndpointSlice>;
  private readonly all: readonly Informer<KubernetesObject>[];
  private readonly listeners = new Set<Listener>();
  private started = false;

  constructor(
    access: ClusterAccess,
    api: KubeApi,
    owner: string,
    private readonly logger: Logger,
  ) {
    const events: InformerEvents = {
      changed: (functionId) => this.tell(functionId),
      cutOff: (kind, reason) => this.logger.warn({ kind: kind.kind, reason }, 'watching the cluster failed, retrying'),
      resumed: (kind) => this.resumed(kind),
    };
    const informer = <T extends KubernetesObject>(kind: Kind) => new Informer<T>(access, api, kind, owner, events);
    this.code = new Informer(access, api, CONFIG_MAP, owner, events, { metadataOnly: true });
    this.services = informer(SERVICE);
    this.deployments = informer(DEPLOYMENT);
    this.autoscalers = new Informer(access, api, AUTOSCALER, owner, events, { statusIsNews: false });
    this.pods = informer(POD);
    this.slices = informer(ENDPOINT_SLICE);
    this.all = [this.code, this.services, this.deployments, this.autoscalers, this.pods, this.slices];
  }

  /** Resolves when it shows the cluster as it is; throws {@link OrchestratorUnavailable} when it may be behind. */
  async current(signal: AbortSignal): Promise<void> {
    await this.firstSync(signal);
    const fault = this.all.map(({ behind }) => behind).find((behind) => behind !== undefined);
    if (fault === undefined) return;
    throw fault instanceof OrchestratorUnavailable ? fault : new OrchestratorUnavailable(ENGINE, fault.message, fault);
  }

  /** Tells of every change until the signal aborts. */
  async follow(listener: Listener, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.listeners.add(listener);
    this.start();
    signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
    this.listeners.delete(listener);
  }

  /** Resolves at the function's next change, and after `ms` in any case. */
  async change(functionId: FunctionId, ms: number, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, AbortSignal.timeout(ms)]);
    const seen = new AbortController();
    const listener = (changed: FunctionId | undefined) => {
      if (changed === undefined || changed === functionId) seen.abort();
    };
    await this.follow(listener, AbortSignal.any([either, seen.signal]));
    signal.throwIfAborted();
  }

  /** Tells whoever follows that a function may have changed in what no object shows. */
  hint(functionId: FunctionId): void {
    this.tell(functionId);
  }

  /** For a function that the API server has shown to be gone. */
  forget(functionId: FunctionId): void {
    for (const informer of this.all) informer.forget(functionId);
  }

  close(): void {
    this.listeners.clear();
    for (const informer of this.all) informer.close();
  }

  private start(): void {
    if (this.started) return;
    this.started = true;
    for (const informer of this.all) informer.start();
  }

  private async firstSync(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.start();
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const either = AbortSignal.any([signal, AbortSignal.timeout(FIRST_SYNC_MS)]);
    either.addEventListener('abort', () => resolve(), { once: true });
    await Promise.race([Promise.all(this.all.map(({ tried }) => tried)), over]);
    signal.throwIfAborted();
  }

  private resumed(kind: Kind): void {
    this.logger.debug({ kind: kind.kind }, 'watching the cluster');
    this.tell(undefined);
  }

  private tell(functionId: FunctionId | undefined): void {
    for (const listener of this.listeners) listener(functionId);
  }
}
