import type { V1ContainerStateTerminated } from '@kubernetes/client-node';
import { exitFault } from '#libs/orchestrator/exit-fault.js';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import type { KubeApi } from './kube-api.js';
import { CONTAINER } from './names.js';
import type { Replica } from './replica.js';
import { moment } from './faults.js';

const LAST_LINES = '60';
const LARGEST_LOG_BYTES = '65536';
const MOST_REMEMBERED = 2_000;
/** A node that is cut off hands out no logs, and the function's step must go on. */
const LOG_TIMEOUT_MS = 5_000;

/** Why containers ended, with their last log lines; each is asked for once. */
export class Terminations {
  private readonly known = new Map<string, WorkloadFault>();

  constructor(private readonly api: KubeApi) {}

  /** Undefined for a replica that hasn't ended since it began. */
  async of(replica: Replica, signal: AbortSignal): Promise<WorkloadFault | undefined> {
    const { pod, status } = replica;
    const ended = status?.state?.terminated ?? status?.lastState?.terminated;
    if (replica.ended && (status === undefined || pod.status?.reason !== undefined)) return evicted(replica, ended);
    if (status === undefined || ended === undefined) return undefined;
    // Its manager died or removed it: that is no fault of the function's code.
    if (replica.fromPool && ended.exitCode === 0) return undefined;
    const key = ended.containerID ?? `${replica.name}:${ended.finishedAt?.toString()}`;
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const isPrevious = status.state?.terminated === undefined;
    const fault = exitFault({
      exitCode: ended.exitCode,
      oomKilled: ended.reason === 'OOMKilled',
      finishedAt: moment(ended.finishedAt),
      error: ended.reason === 'StartError' ? (ended.message ?? '') : '',
      log: await this.lastLines(replica.name, isPrevious, ended, signal),
      neverReady: status.restartCount <= 1 && wasNeverReady(replica, ended),
    });
    this.remember(key, fault);
    return fault;
  }

  /** A log that is gone or can't be had leaves what the engine itself kept of it. */
  private async lastLines(
    pod: string,
    previous: boolean,
    ended: V1ContainerStateTerminated,
    signal: AbortSignal,
  ): Promise<string[]> {
    const query = { container: CONTAINER, tailLines: LAST_LINES, limitBytes: LARGEST_LOG_BYTES };
    try {
      const either = AbortSignal.any([signal, AbortSignal.timeout(LOG_TIMEOUT_MS)]);
      const log = await this.api.log(pod, { ...query, ...(previous && { previous: 'true' }) }, either);
      if (log.trim() !== '') return log.split('\n');
    } catch {
      signal.throwIfAborted();
    }
    return (ended.message ?? '').split('\n');
  }

  private remember(key: string, fault: WorkloadFault): void {
    this.known.set(key, fault);
    const oldest = this.known.keys().next();
    if (this.known.size > MOST_REMEMBERED && oldest.done !== true) this.known.delete(oldest.value);
  }
}

/** Readiness that last changed before the container began never came to it. */
function wasNeverReady({ pod }: Replica, ended: V1ContainerStateTerminated): boolean {
  const ready = pod.status?.conditions?.find(({ type }) => type === 'Ready');
  return ready?.status !== 'True' && moment(ready?.lastTransitionTime) <= moment(ended.startedAt);
}

/** The node's own reason tells more than the container's exit code. */
function evicted({ pod }: Replica, ended: V1ContainerStateTerminated | undefined): WorkloadFault {
  const { reason, message, startTime } = pod.status ?? {};
  const said = [reason, message].filter(Boolean).join(': ');
  return {
    code: 'worker_crashed',
    message: `The worker's pod was ended${said === '' ? '' : `: ${said}`}`,
    terminal: false,
    at: moment(ended?.finishedAt ?? startTime ?? pod.metadata?.creationTimestamp),
  };
}
