import type { V1Deployment } from '@kubernetes/client-node';
import type { Endpoint, Observed, Workload, WorkloadFault } from '#libs/orchestrator/workload.js';
import { LABEL } from './labels.js';
import { SERVICE_PORT } from './names.js';
import type { Replica } from './replica.js';
import { moment } from './faults.js';

export interface Look {
  readonly workload: Workload;
  readonly spec: string;
  readonly deployment: V1Deployment | undefined;
  readonly replicas: readonly Replica[];
  /** What went wrong, the most telling first. */
  readonly faults: readonly WorkloadFault[];
}

/**
 * What the port tells of one function. While a Deployment rolls, both specs' ready pods get calls: it never has fewer
 * than the wanted ones in all, but may have few of either. Pods of the pool get calls until enough of the wanted spec's own
 * pods are ready, and count for those meanwhile, not beside them.
 */
export function observedOf({ workload, spec, deployment, replicas, faults }: Look): Observed {
  const surplus = surplusPoolReplicas(workload, spec, replicas);
  const staying = replicas.filter((replica) => !replica.leaving && !replica.ended && !surplus.includes(replica));
  const wanted = staying.filter((replica) => replica.spec === spec);
  const [own, poolReplicas] = [wanted.filter(({ fromPool }) => !fromPool), wanted.filter(({ fromPool }) => fromPool)];
  const ownReady = own.filter(({ ready }) => ready).length;
  const ready = Math.min(wanted.filter((replica) => replica.ready).length, Math.max(ownReady, workload.replicas));
  const serving = staying.filter((replica) => replica.ready);
  const former = serving.filter((replica) => replica.spec !== spec).length;
  const fault = faults[0] ?? (ready < workload.replicas ? starting(wanted, deployment) : undefined);
  return {
    replicas: Math.max(own.length, promised(deployment, spec), poolReplicas.length),
    ready,
    endpoints: workload.replicas === 0 ? [] : serving.flatMap(endpointOf),
    primary: deployment?.metadata?.name ?? '',
    hostPort: deployment === undefined ? 0 : SERVICE_PORT,
    ...(former > 0 && { former }),
    ...(fault !== undefined && { reason: fault }),
  };
}

/**
 * Pods of the pool that the function needs no longer: as many of its own pods are ready as are wanted, of the wanted
 * spec or of that pod's spec, or another pod serves the wanted spec while this one has a former one.
 */
export function surplusPoolReplicas(workload: Workload, spec: string, replicas: readonly Replica[]): Replica[] {
  const ready = replicas.filter((replica) => replica.ready);
  const own = ready.filter(({ fromPool }) => !fromPool);
  const isServed = ready.some((replica) => replica.spec === spec);
  return replicas.filter((one) => {
    if (!one.fromPool) return false;
    const instead = own.filter((replica) => replica.spec === spec || replica.spec === one.spec);
    return instead.length >= workload.replicas || (one.spec !== spec && isServed);
  });
}

/** Pods that the Deployment is bound to make, whether or not they can be seen yet. */
function promised(deployment: V1Deployment | undefined, spec: string): number {
  return deployment?.metadata?.labels?.[LABEL.spec] === spec ? (deployment.spec?.replicas ?? 1) : 0;
}

function endpointOf({ id, address, credential, revision }: Replica): Endpoint[] {
  if (address === undefined) return [];
  const known = { ...(credential !== undefined && { credential }), ...(revision !== undefined && { revision }) };
  return [{ replica: id, address, ...known }];
}

function starting(wanted: readonly Replica[], deployment: V1Deployment | undefined): WorkloadFault {
  const waiting = wanted.find(({ ready }) => !ready);
  const reason = waiting?.status?.state?.waiting?.reason;
  return {
    code: 'starting',
    message: `The worker is starting${reason === undefined ? '' : ` (${reason})`}.`,
    terminal: false,
    at: moment(waiting?.pod.metadata?.creationTimestamp ?? deployment?.metadata?.creationTimestamp),
  };
}
