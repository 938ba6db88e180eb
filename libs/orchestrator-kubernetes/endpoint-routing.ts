import type { Logger } from 'pino';
import type { KubernetesConfig } from '#libs/config/config.js';
import type { Endpoint, EndpointAddress, FunctionId } from '#libs/orchestrator/workload.js';
import { ApiProxy } from './api-proxy.js';
import type { ClusterAccess } from './cluster-access.js';
import { SERVICE_PORT, serviceName } from './names.js';
import { podOf } from './replica.js';
import type { ClusterCache } from './cluster-cache.js';
import { connect } from 'node:net';

/** How this manager's calls reach replicas: found out once, with the first replica that is ready. */
export class EndpointRouting {
  private reach: Reach;
  private isSure: boolean;
  private proxy: ApiProxy | undefined;

  constructor(
    private readonly config: KubernetesConfig,
    private readonly access: ClusterAccess,
    private readonly cache: ClusterCache,
    private readonly logger: Logger,
  ) {
    this.reach = firstReach({ configured: config.reach, insideCluster: config.insideCluster });
    this.isSure = config.reach !== 'auto' || this.reach !== 'pod';
    logger.info({ reach: this.reach }, 'chose how to reach workers');
  }

  /** Calls go by the names of pods or Services, which are never reused, and not to pods' own addresses. */
  get routesByName(): boolean {
    return this.reach !== 'pod';
  }

  /** The endpoints to use: the pods' own, or the one of the Service in front of them. */
  async choose(functionId: FunctionId, pods: readonly Endpoint[]): Promise<readonly Endpoint[]> {
    const [first] = pods;
    if (first === undefined || this.reach === 'proxy') return pods;
    const service = this.serviceOf(functionId);
    if (!this.isSure) {
      this.isSure = true;
      this.reach = await reachByProbe(first.address, service);
      if (this.reach === 'service') {
        this.logger.warn(
          { pod: first.address },
          "pods' own addresses can't be reached: calls go to Services' addresses",
        );
      }
    }
    if (this.reach === 'pod' || service === undefined) return pods;
    // Connections end with the pods behind it, so that none is kept to a pod that is gone.
    const replica = `${serviceName(functionId)}/${pods.map((pod) => pod.replica).join('+')}`;
    const credential = pods.find((pod) => pod.credential !== undefined)?.credential;
    const revisions = new Set(pods.map((pod) => pod.revision));
    // The cluster chooses among all pods behind it.
    const revision = revisions.size === 1 ? first.revision : undefined;
    const known = { ...(credential !== undefined && { credential }), ...(revision !== undefined && { revision }) };
    return [{ replica, address: service, ...known }];
  }

  to({ replica, address }: Endpoint): EndpointAddress {
    if (this.reach !== 'proxy') return address;
    const { cache } = this;
    this.proxy ??= new ApiProxy(this.access, this.config.namespace, (pod) => cache.pods.find(pod) !== undefined);
    return this.proxy.to(podOf(replica));
  }

  close(): void {
    this.proxy?.closeAll();
  }

  private serviceOf(functionId: FunctionId): EndpointAddress | undefined {
    const host = this.cache.services.get(functionId, serviceName(functionId))?.spec?.clusterIP;
    if (host === undefined || host === '' || host === 'None') return undefined;
    return { kind: 'tcp', host, port: SERVICE_PORT };
  }
}

/**
 * `pod`: straight to pods' addresses. `service`: to the Service's cluster address, which the cluster spreads over ready
 * pods. `proxy`: through the API server, from anywhere the kubeconfig works.
 */
export type Reach = 'pod' | 'service' | 'proxy';

const CONNECT_TIMEOUT_MS = 2_000;

export interface ReachFacts {
  readonly configured: KubernetesConfig['reach'];
  readonly insideCluster: boolean;
}

/** How a manager begins. Outside, a pod's address may by accident be somebody else's, so it isn't even tried. */
export function firstReach({ configured, insideCluster }: ReachFacts): Reach {
  if (configured !== 'auto') return configured;
  return insideCluster ? 'pod' : 'proxy';
}

/** In some networks only Services can be reached: then the first ready pod takes no connection. */
export async function reachByProbe(pod: EndpointAddress, service: EndpointAddress | undefined): Promise<Reach> {
  if (await connects(pod)) return 'pod';
  return service !== undefined && (await connects(service)) ? 'service' : 'pod';
}

function connects(address: EndpointAddress): Promise<boolean> {
  if (address.kind !== 'tcp') return Promise.resolve(false);
  return new Promise((resolve) => {
    const socket = connect({ host: address.host, port: address.port, timeout: CONNECT_TIMEOUT_MS });
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}
