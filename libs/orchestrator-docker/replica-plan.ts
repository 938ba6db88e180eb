import type { ReplicaHealth } from '#libs/orchestrator/health-probe.js';
import { type EndpointGuard, mayServe, type WorkloadFault } from '#libs/orchestrator/workload.js';
import type { Replica } from './replica.js';

/** A replica and what this manager knows of it beyond the engine's list. */
export interface Seen {
  readonly replica: Replica;
  readonly health: ReplicaHealth;
  readonly guard?: EndpointGuard;
  /** Why it ended; only for ended replicas of the wanted spec. */
  readonly fault?: WorkloadFault;
  /** An earlier step told the fault already. */
  readonly told: boolean;
}

export interface Wanted {
  readonly spec: string;
  readonly revision: number;
  /** The revision that has the calls until this one takes over. */
  readonly formerRevision?: number | undefined;
  readonly replicas: number;
  /** Ended replicas are not replaced yet. */
  readonly holdEnded: boolean;
  /** Nothing is started any more. */
  readonly startsNone?: boolean | undefined;
}

export interface Plan {
  /** Nothing runs in them: removed at once. */
  readonly discard: readonly Replica[];
  /** They get no new calls, finish those they have, and go. */
  readonly leave: readonly Replica[];
  /** Of the wanted spec, running, and staying. */
  readonly keep: readonly Seen[];
  /** Running replicas of another spec that stay until the wanted ones are ready. */
  readonly former: readonly Seen[];
  /** Gets the function's own name, which is free. */
  readonly promote: Replica | undefined;
  /** The slots to fill with new replicas. */
  readonly start: readonly number[];
  /** What the ended replicas of the wanted spec tell. */
  readonly faults: readonly WorkloadFault[];
}

/** The one step from what there is towards what is wanted. */
export function planReplicas(wanted: Wanted, seen: readonly Seen[]): Plan {
  const ours = seen.filter(({ replica }) => replica.spec === wanted.spec && !replica.leaving);
  const others = seen.filter((one) => !ours.includes(one));

  const running = ours.filter(({ replica }) => replica.state === 'running');
  const sound = running.filter(({ health }) => health !== 'unhealthy').toSorted(byMerit);
  const keep = sound.slice(0, wanted.replicas);
  const ready = keep.filter(({ health }) => health === 'ready').length;

  const ended = ours.filter(({ replica }) => replica.state === 'ended');
  const terminal = ended.find(({ fault }) => fault?.terminal === true);
  const vacant = wanted.replicas - keep.length;
  const stay = endedThatStay(ended, terminal, wanted, vacant);
  const held = wanted.holdEnded ? stay.length : 0;

  const staysUntilReady = others.filter(
    ({ replica }) => replica.state === 'running' && !replica.leaving && mayServe(replica.revision, wanted),
  );
  const former = ready < wanted.replicas ? staysUntilReady : [];
  const leave = [...running, ...others]
    .filter((one) => one.replica.state === 'running' && !keep.includes(one) && !former.includes(one))
    .map(({ replica }) => replica);

  const taken = new Set([...keep, ...former, ...stay].map(({ replica }) => replica.slot));
  const promote = taken.has(1) ? undefined : oldestReady(keep);
  if (promote !== undefined) taken.add(1);
  return {
    discard: seen.filter((one) => one.replica.state !== 'running' && !stay.includes(one)).map(({ replica }) => replica),
    leave,
    keep,
    former,
    promote,
    start: freeSlots(terminal === undefined && wanted.startsNone !== true ? vacant - held : 0, taken),
    faults: ended.flatMap(({ fault }) => fault ?? []),
  };
}

/** An ended replica stays as the proof of its fault: a terminal one for good, any other until it was told or replaced. */
function endedThatStay(
  ended: readonly Seen[],
  terminal: Seen | undefined,
  wanted: Wanted,
  vacant: number,
): readonly Seen[] {
  if (wanted.replicas === 0) return [];
  if (terminal !== undefined) return [terminal];
  return wanted.holdEnded ? ended.slice(0, Math.max(0, vacant)) : ended.filter(({ told }) => !told);
}

/** Ready ones first, then by slot and age: every manager comes to the same order. */
function byMerit(a: Seen, b: Seen): number {
  const ready = Number(b.health === 'ready') - Number(a.health === 'ready');
  return ready || bySeniority(a.replica, b.replica);
}

export function bySeniority(a: Replica, b: Replica): number {
  return (a.slot ?? Infinity) - (b.slot ?? Infinity) || a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);
}

function oldestReady(keep: readonly Seen[]): Replica | undefined {
  const ready = keep.filter(({ health }) => health === 'ready').map(({ replica }) => replica);
  return ready.toSorted((a, b) => a.createdAt - b.createdAt || bySeniority(a, b))[0];
}

function freeSlots(count: number, taken: ReadonlySet<number | undefined>): number[] {
  const slots: number[] = [];
  for (let slot = 1; slots.length < count; slot += 1) if (!taken.has(slot)) slots.push(slot);
  return slots;
}
