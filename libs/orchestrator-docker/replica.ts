import type { ContainerInfo, ContainerInspectInfo } from 'dockerode';
import type { EndpointAddress, FunctionId } from '#libs/orchestrator/workload.js';
import type { Claimed } from './claims.js';
import { LABEL } from './labels.js';
import type { Reach } from './reach.js';

export const WORKER_PORT = 8000;
export const CODE_DIR = '/app/function';

/**
 * `half`: created and never started. `generic`: taken from the pool and never given its function. `gone`: the engine is
 * removing it.
 */
export type ReplicaState = 'half' | 'generic' | 'running' | 'ended' | 'gone';

/** One container of ours, as the engine's list shows it. */
export interface Replica {
  readonly id: string;
  readonly name: string;
  readonly functionId: FunctionId;
  readonly spec: string;
  /** Undefined for one that nobody has claimed. */
  readonly revision?: number | undefined;
  readonly state: ReplicaState;
  /** Its place among the function's names; undefined for one that is leaving or was renamed by hand. */
  readonly slot: number | undefined;
  /** Told to drain. Kept in the name, so that it survives a restart of the manager. */
  readonly leaving: boolean;
  /** Seconds since the epoch, by the engine's clock. */
  readonly createdAt: number;
  readonly hostPort: number;
  readonly networks: Readonly<Record<string, string>>;
  /** The volume that holds its code. */
  readonly volume: string | undefined;
  /** What its token is made of; undefined for one that answers whoever calls. */
  readonly credential: string | undefined;
  /** It was started without a function: which one it serves stands in its name, and what of in its claim. */
  readonly fromPool: boolean;
}

/** Slot 1 bears the function's own name. Names are predictable, so that two managers can't both fill one slot. */
export function slotName(functionId: FunctionId, slot: number): string {
  return slot === 1 ? `faas-worker-${functionId}` : `faas-worker-${functionId}-${slot}`;
}

export function leavingName({ id, functionId }: Pick<Replica, 'id' | 'functionId'>): string {
  return `faas-worker-${functionId}-leaving-${id.slice(0, 12)}`;
}

/** The function that a name of ours belongs to; undefined for a worker of the pool and for a stranger. */
export function functionIdIn(name: string): FunctionId | undefined {
  return /^\/?faas-worker-([a-z2-7]{16})(-|$)/.exec(name)?.[1];
}

/** The function that a container of ours serves; undefined for a worker of the pool. */
export function functionIdOf({ Labels, Names }: Pick<ContainerInfo, 'Labels' | 'Names'>): FunctionId | undefined {
  return LABEL.pool in Labels ? functionIdIn(Names[0] ?? '') : Labels[LABEL.functionId];
}

/** @param claimed of one that came from the pool */
export function replicaOf(container: ContainerInfo, claimed: Claimed = { spec: '' }): Replica {
  const functionId = functionIdOf(container) ?? '';
  const name = (container.Names[0] ?? '').replace(/^\//, '');
  const fromPool = LABEL.pool in container.Labels;
  const { spec, revision } = fromPool
    ? claimed
    : { spec: container.Labels[LABEL.spec] ?? '', revision: container.Labels[LABEL.revision] };
  return {
    id: container.Id,
    name,
    functionId,
    fromPool,
    spec,
    revision: revision === undefined ? undefined : Number(revision),
    state: stateOf(container.State),
    slot: slotOf(functionId, name),
    leaving: name.startsWith(`${slotName(functionId, 1)}-leaving-`),
    createdAt: container.Created,
    hostPort: container.Ports.find((port) => port.PrivatePort === WORKER_PORT && port.PublicPort)?.PublicPort ?? 0,
    networks: Object.fromEntries(
      Object.entries(container.NetworkSettings.Networks).map(([network, { IPAddress }]) => [network, IPAddress]),
    ),
    credential: container.Labels[LABEL.credential],
    volume: container.Mounts.find(({ Destination }) => Destination === CODE_DIR)?.Name,
  };
}

/** Where the manager calls a running replica; undefined while the engine hasn't given it an address. */
export function addressOf(replica: Replica, network: string, reach: Reach): EndpointAddress | undefined {
  if (reach === 'published') {
    return replica.hostPort === 0 ? undefined : { kind: 'tcp', host: '127.0.0.1', port: replica.hostPort };
  }
  const host = replica.networks[network];
  return host ? { kind: 'tcp', host, port: WORKER_PORT } : undefined;
}

/** Whether a container, as its inspection shows it, runs and is the one that answers at this address. */
export function hasAddress(
  { State: state, NetworkSettings: settings }: ContainerInspectInfo,
  network: string,
  address: EndpointAddress,
): boolean {
  if (!state.Running || address.kind !== 'tcp') return false;
  if (address.port === WORKER_PORT && settings.Networks[network]?.IPAddress === address.host) return true;
  return (settings.Ports[`${WORKER_PORT}/tcp`] ?? []).some(({ HostPort }) => Number(HostPort) === address.port);
}

function stateOf(state: string): ReplicaState {
  switch (state) {
    case 'created':
      return 'half';
    case 'exited':
      return 'ended';
    case 'removing':
    case 'dead':
      return 'gone';
    default:
      return 'running';
  }
}

function slotOf(functionId: FunctionId, name: string): number | undefined {
  if (name === slotName(functionId, 1)) return 1;
  const suffix = /-([2-9]|[1-9]\d+)$/.exec(name)?.[1];
  return suffix !== undefined && name === slotName(functionId, Number(suffix)) ? Number(suffix) : undefined;
}
