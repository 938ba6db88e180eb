import { connect } from 'node:net';
import type { KubernetesConfig } from '#libs/config/config.js';
import type { EndpointAddress } from '#libs/orchestrator/workload.js';

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

/** Some networks let only nodes or Services be reached: told by the first pod that is ready and yet silent. */
export async function reachBySight(pod: EndpointAddress, service: EndpointAddress | undefined): Promise<Reach> {
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
