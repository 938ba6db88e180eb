import type { EndpointAddress, Observed, Workload, WorkloadFault } from '#libs/orchestrator/workload.js';
import { slotName } from './replica.js';
import { bySeniority, type Seen } from './replica-plan.js';
import type { WarmReplica } from './warm-starter.js';

export interface Look {
  readonly wanted: number;
  /** Replicas of the wanted spec that run and stay. */
  readonly keep: readonly Seen[];
  /** Running replicas of the former spec that stay for now. */
  readonly former: readonly Seen[];
  readonly leaving: number;
  /** What went wrong in this step, the most telling first. */
  readonly faults: readonly WorkloadFault[];
  readonly addressOf: (seen: Seen) => EndpointAddress | undefined;
}

/** What the port tells of one function: the former spec answers until every wanted replica is ready. */
export function observedOf({ wanted, keep, former, leaving, faults, addressOf }: Look): Observed {
  const senior = keep.toSorted((a, b) => bySeniority(a.replica, b.replica));
  const ready = senior.filter(isReady);
  const formerReady = former.filter(isReady);
  const serving = ready.length < wanted && formerReady.length > 0 ? formerReady : ready;
  const first = senior[0] ?? former[0];
  const fault = faults[0] ?? (ready.length < wanted ? startingSince(senior) : undefined);
  return {
    replicas: keep.length,
    ready: ready.length,
    endpoints: serving.flatMap((seen) => {
      const address = addressOf(seen);
      if (address === undefined) return [];
      const { replica, guard } = seen;
      const { id, credential, revision } = replica;
      const known = {
        ...(guard !== undefined && { guard }),
        ...(credential !== undefined && { credential }),
        ...(revision !== undefined && { revision }),
      };
      return [{ replica: id, address, ...known }];
    }),
    primary: first?.replica.id ?? '',
    hostPort: first?.replica.hostPort ?? 0,
    ...(fault !== undefined && { reason: fault }),
    ...(leaving > 0 && { leaving }),
  };
}

/** The only replica of its function, which has just answered. Only our own worker can have been given its function. */
export function seenReady({ id, address, hostPort, call }: WarmReplica, revision: number): Observed {
  return {
    replicas: 1,
    ready: 1,
    endpoints: [{ replica: id, address, guard: 'worker', credential: call.credential, revision }],
    primary: id,
    hostPort,
  };
}

/** One that has just answered, as the engine would list it. */
export function seenOf(made: WarmReplica, { functionId, revision }: Workload, spec: string, network: string): Seen {
  const { id, address, hostPort, call, slot } = made;
  const replica = {
    id,
    name: slotName(functionId, slot),
    functionId,
    spec,
    revision,
    state: 'running',
    slot,
    leaving: false,
    createdAt: Math.trunc(Date.now() / 1000),
    hostPort,
    networks: address.kind === 'tcp' ? { [network]: address.host } : {},
    volume: undefined,
    credential: call.credential,
    fromPool: true,
  } as const;
  return { replica, health: 'ready', guard: 'worker', told: false };
}

function isReady({ health }: Seen): boolean {
  return health === 'ready';
}

function startingSince(keep: readonly Seen[]): WorkloadFault {
  const waiting = keep.filter((seen) => !isReady(seen));
  const since = waiting.length === 0 ? Date.now() : Math.min(...waiting.map(({ replica }) => replica.createdAt * 1000));
  return { code: 'starting', message: 'The worker is starting.', terminal: false, at: new Date(since) };
}
