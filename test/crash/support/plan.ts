import type { Kind } from './handlers.js';
import { Random } from './random.js';
import type { CrashEngine } from './site.js';

export type Victim = 'manager' | 'managers' | 'worker' | 'runner' | 'waiting' | 'database' | 'engine' | 'watches';

export interface Kill {
  readonly victim: Victim;
  /** Milliseconds after the operations have begun. */
  readonly at: number;
  /** Milliseconds until it is started again. */
  readonly downFor: number;
  /** Which manager. */
  readonly which: number;
  /** Of an engine: its workers live on. */
  readonly keepWorkers: boolean;
}

export interface Operation {
  readonly at: number;
  readonly manager: number;
  /** Of an upload. */
  readonly kind: Kind;
}

/** What crashes happen on. */
export interface Ground {
  readonly engine: CrashEngine;
  /** Managers keep workers without a function ready. */
  readonly hasPool: boolean;
}

/** All that is decided before a round begins; the same for the same seed. */
export interface Plan {
  readonly kills: readonly Kill[];
  readonly uploads: readonly Operation[];
  readonly removals: readonly Operation[];
  readonly callers: number;
  /** More call one elastic function at once than it has room for. */
  readonly rush: boolean;
  readonly random: Random;
}

/** About as long as the operations take when nothing is killed. */
const LATEST_MS = { process: 700, docker: 1_300, kubernetes: 3_000, 'small kubernetes': 2_000 };
/** An API server may be away for longer than a connection takes to be made anew. */
const LONGEST_DOWN_MS = { process: 250, docker: 250, kubernetes: 1_500, 'small kubernetes': 1_500 };

export function planRound(seed: string, ground: Ground, round: number): Plan {
  const { engine } = ground;
  const random = new Random(`${seed}/${engine}/${round}`);
  const kills = victimsOf(ground, random).map((victim) => ({
    victim,
    at: random.integer(50, LATEST_MS[engine]),
    downFor: random.integer(0, LONGEST_DOWN_MS[engine]),
    which: random.integer(0, 1),
    keepWorkers: random.chance(0.5),
  }));
  const operations = (from: number, to: number) =>
    Array.from({ length: random.integer(from, to) }, () => ({
      at: random.integer(0, LATEST_MS[engine] / 3),
      manager: random.integer(0, 1),
      kind: random.pick(kindsOn(engine)),
    }));
  return { kills, uploads: operations(1, 2), removals: operations(2, 3), callers: 4, rush: random.chance(0.5), random };
}

/** A cluster's autoscaler takes replicas away in its own time, which is too long for a round. */
function kindsOn(engine: CrashEngine): Kind[] {
  return isCluster(engine) ? ['steady', 'steady', 'sleepy'] : ['steady', 'steady', 'sleepy', 'elastic'];
}

function isCluster(engine: CrashEngine): boolean {
  return engine === 'kubernetes' || engine === 'small kubernetes';
}

/** One victim in most rounds; sometimes a second at nearly the same time. */
function victimsOf({ engine, hasPool }: Ground, random: Random): Victim[] {
  const all: Victim[] = ['manager', 'managers', 'worker', 'database'];
  // What runs inside of a pod is its node's to know.
  all.push(isCluster(engine) ? 'manager' : 'runner');
  if (hasPool) all.push('waiting');
  if (engine === 'docker' || isCluster(engine)) all.push('engine', 'engine');
  if (isCluster(engine)) all.push('watches');
  const first = random.pick(all);
  const second = random.chance(0.4) ? random.pick(all) : first;
  const isSame = second === first || (first.startsWith('manager') && second.startsWith('manager'));
  return isSame ? [first] : [first, second];
}

const NAMES: Partial<Record<Victim, string>> = { waiting: 'a worker of the pool' };

export function describePlan({ kills }: Plan): string {
  const named = ({ victim, keepWorkers }: Kill) =>
    victim === 'engine' && keepWorkers ? 'engine (its workers live on)' : (NAMES[victim] ?? victim);
  return kills.map(named).join(' and ');
}
