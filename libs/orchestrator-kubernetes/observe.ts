import type { V1Deployment } from '@kubernetes/client-node';
import type { Endpoint, Observed, Workload, WorkloadFault } from '#libs/orchestrator/workload.js';
import { LABEL } from './labels.js';
import { SERVICE_PORT } from './names.js';
import type { Replica } from './replica.js';
import { moment } from './waiting-fault.js';

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
 * than the wanted ones in all, but may have few of either.
 */
export function observedOf({ workload, spec, deployment, replicas, faults }: Look): Observed {
  const staying = replicas.filter(({ leaving, ended }) => !leaving && !ended);
  const wanted = staying.filter((replica) => replica.spec === spec);
  const ready = wanted.filter((replica) => replica.ready);
  const serving = staying.filter((replica) => replica.ready);
  const fault = faults[0] ?? (ready.length < workload.replicas ? starting(wanted, deployment) : undefined);
  return {
    replicas: Math.max(wanted.length, promised(deployment, spec)),
    ready: ready.length,
    endpoints: workload.replicas === 0 ? [] : serving.flatMap(endpointOf),
    primary: deployment?.metadata?.name ?? '',
    hostPort: deployment === undefined ? 0 : SERVICE_PORT,
    ...(fault !== undefined && { reason: fault }),
  };
}

/** Pods that the Deployment is bound to make, whether or not they can be seen yet. */
function promised(deployment: V1Deployment | undefined, spec: string): number {
  return deployment?.metadata?.labels?.[LABEL.spec] === spec ? (deployment.spec?.replicas ?? 1) : 0;
}

function endpointOf({ id, address }: Replica): Endpoint[] {
  return address === undefined ? [] : [{ replica: id, address }];
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
