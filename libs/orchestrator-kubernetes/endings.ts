import type { V1ContainerStateTerminated } from '@kubernetes/client-node';
import { exitFault } from '#libs/orchestrator/exit-fault.js';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import { ApiRefusal } from './api-fault.js';
import type { KubeApi } from './kube-api.js';
import { CONTAINER } from './names.js';
import type { Replica } from './replica.js';
import { moment } from './waiting-fault.js';

const LAST_LINES = '60';
const LARGEST_LOG_BYTES = '65536';
const MOST_REMEMBERED = 2_000;

/** Why containers ended, with their last log lines; each is asked for once. */
export class Endings {
  private readonly known = new Map<string, WorkloadFault>();

  constructor(private readonly api: KubeApi) {}

  /** Undefined for a replica that hasn't ended since it began. */
  async of(replica: Replica, signal: AbortSignal): Promise<WorkloadFault | undefined> {
    const { pod, status } = replica;
    if (pod.status?.phase === 'Failed' && status === undefined) return evicted(replica);
    const ended = status?.state?.terminated ?? status?.lastState?.terminated;
    if (status === undefined || ended === undefined) return undefined;
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

  /** A log that is gone leaves what the engine itself kept of it. */
  private async lastLines(
    pod: string,
    previous: boolean,
    ended: V1ContainerStateTerminated,
    signal: AbortSignal,
  ): Promise<string[]> {
    const query = { container: CONTAINER, tailLines: LAST_LINES, limitBytes: LARGEST_LOG_BYTES };
    try {
      const log = await this.api.log(pod, { ...query, ...(previous && { previous: 'true' }) }, signal);
      if (log.trim() !== '') return log.split('\n');
    } catch (error) {
      if (!(error instanceof ApiRefusal)) throw error;
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

function evicted({ pod }: Replica): WorkloadFault {
  const { reason, message, startTime } = pod.status ?? {};
  const said = [reason, message].filter(Boolean).join(': ');
  return {
    code: 'worker_crashed',
    message: `The worker's pod was ended${said === '' ? '' : `: ${said}`}`,
    terminal: false,
    at: moment(startTime),
  };
}
