import type { V1ContainerStatus, V1EndpointSlice, V1Pod, V1PodStatus } from '@kubernetes/client-node';
import type { EndpointAddress } from '#libs/orchestrator/workload.js';
import { CREDENTIAL_ANNOTATION, LABEL } from './labels.js';
import { CONTAINER, WORKER_PORT } from './names.js';

/** One pod of a function, as the informers show it. */
export interface Replica {
  readonly pod: V1Pod;
  readonly name: string;
  readonly spec: string;
  /** A pod of the pool, which serves until the function's own are ready. */
  readonly fromPool: boolean;
  /** Being deleted, by whomever. */
  readonly leaving: boolean;
  /** Evicted or rejected by its node: it no longer runs, and is kept only to show why. */
  readonly ended: boolean;
  readonly status: V1ContainerStatus | undefined;
  /** Its container runs, ready or not: one that leaves still finishes the calls it has. */
  readonly running: boolean;
  /** It may get calls: the EndpointSlices say so; a pod of the pool says so itself. */
  readonly ready: boolean;
  /** Of the container that runs in it; one that was restarted in place is another replica. */
  readonly id: string;
  readonly address: EndpointAddress | undefined;
  /** What its token is made of; undefined for one that answers whoever calls. */
  readonly credential: string | undefined;
  readonly revision: number | undefined;
}

const SHOWN_ID = 12;

/** `answers`: whether the pod of the pool with this id has loaded the function. */
export function replicasOf(
  pods: readonly V1Pod[],
  slices: readonly V1EndpointSlice[],
  answers: (id: string) => boolean = () => false,
): Replica[] {
  const serving = servingPods(slices);
  return pods
    .map((pod) => replicaOf(pod, serving, answers))
    .toSorted((a, b) => createdAt(a) - createdAt(b) || (a.name < b.name ? -1 : 1));
}

/** Names of the pods that the cluster would send traffic to. */
function servingPods(slices: readonly V1EndpointSlice[]): Set<string> {
  const names = slices.flatMap(({ endpoints }) =>
    (endpoints ?? [])
      .filter(({ conditions }) => conditions?.ready !== false && conditions?.terminating !== true)
      .map(({ targetRef }) => (targetRef?.kind === 'Pod' ? (targetRef.name ?? '') : '')),
  );
  return new Set(names);
}

function replicaOf(pod: V1Pod, serving: ReadonlySet<string>, answers: (id: string) => boolean): Replica {
  const name = pod.metadata?.name ?? '';
  const status = pod.status?.containerStatuses?.find((container) => container.name === CONTAINER);
  const fromPool = pod.metadata?.labels?.[LABEL.pool] !== undefined;
  const leaving = pod.metadata?.deletionTimestamp !== undefined;
  const ended = isEnded(pod.status);
  const running = status?.state?.running !== undefined && !ended;
  const ip = pod.status?.podIP;
  const id = replicaId(name, status?.containerID);
  const serves = fromPool ? answers(id) : serving.has(name) && status?.ready === true;
  return {
    pod,
    name,
    spec: pod.metadata?.labels?.[LABEL.spec] ?? '',
    fromPool,
    leaving,
    ended,
    status,
    running,
    ready: serves && running && !leaving && ip !== undefined,
    id,
    address: ip === undefined ? undefined : { kind: 'tcp', host: ip, port: WORKER_PORT },
    credential: pod.metadata?.annotations?.[CREDENTIAL_ANNOTATION],
    revision: revisionOf(pod),
  };
}

export function revisionOf({ metadata }: V1Pod): number | undefined {
  const revision = Number(metadata?.labels?.[LABEL.revision] ?? NaN);
  return Number.isNaN(revision) ? undefined : revision;
}

export function replicaId(pod: string, containerId: string | undefined): string {
  const id = containerId?.replace(/^[a-z-]+:\/\//, '').slice(0, SHOWN_ID);
  return id === undefined ? pod : `${pod}/${id}`;
}

/** By eviction, or because its node rejected it: worker containers are restarted in place otherwise. */
export function isEnded(status: V1PodStatus | undefined): boolean {
  return status?.phase === 'Failed' || status?.phase === 'Succeeded';
}

/** The pod that a replica's id names. */
export function podOf(replica: string): string {
  return replica.split('/', 1)[0] ?? replica;
}

function createdAt({ pod }: Replica): number {
  return new Date(pod.metadata?.creationTimestamp ?? 0).getTime();
}
