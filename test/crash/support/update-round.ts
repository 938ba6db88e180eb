import type { Random } from './random.js';

export type Victim = 'manager' | 'managers' | 'worker' | 'database' | 'engine' | 'builds' | 'nobody';

/** What a user asks for while something is killed. */
export interface Change {
  readonly method: 'POST' | 'PUT';
  readonly path: 'revisions' | 'rollback' | 'traffic';
  readonly body: object;
  /** What calls may answer because of it; a revision answers with its number. */
  readonly allows: readonly number[];
  /** A package of that name is to be built for it. */
  readonly needs?: string;
}

export interface UpdateRound {
  readonly change: Change;
  readonly victim: Victim;
  /** Milliseconds after the change was asked for. */
  readonly at: number;
  readonly downFor: number;
  /** Which manager is asked, and which is killed. */
  readonly asked: number;
  readonly which: number;
}

const VICTIMS: readonly Victim[] = ['manager', 'manager', 'managers', 'worker', 'database', 'nobody'];
const VICTIMS_OF_BUILDS: readonly Victim[] = [...VICTIMS, 'builds', 'builds', 'engine'];
const LONGEST_MS = 400;
/** By then most builds are through. */
const LONGEST_BUILD_MS = 2_500;
/** A kind of change that needs packages. */
const BUILD = 4;
const CODE = (number: number) => `def handle(payload):\n    return ${number}\n`;

/** Of the function. */
export interface UpdateGround {
  /** The revisions that can serve, the newest last. */
  readonly ready: readonly number[];
  /** The highest number that was ever given. */
  readonly last: number;
  /** The change needs packages; otherwise one in four does. */
  readonly mustBuild: boolean;
}

export function planUpdate(random: Random, ground: UpdateGround): UpdateRound {
  const change = changeOf(random, ground);
  const isBuilt = change.needs !== undefined;
  return {
    change,
    victim: random.pick(isBuilt ? VICTIMS_OF_BUILDS : VICTIMS),
    at: random.integer(0, isBuilt ? LONGEST_BUILD_MS : LONGEST_MS),
    downFor: random.integer(0, LONGEST_MS),
    asked: random.integer(0, 1),
    which: random.integer(0, 1),
  };
}

function changeOf(random: Random, { ready, last, mustBuild }: UpdateGround): Change {
  const [one, other] = [random.pick(ready), random.pick(ready)];
  switch (mustBuild ? BUILD : random.integer(0, 7)) {
    case 0:
    case 1:
      return { method: 'POST', path: 'revisions', body: { code: CODE(last + 1) }, allows: [last + 1] };
    case 2:
      return { method: 'POST', path: 'revisions', body: { code: 'def handle(:\n' }, allows: [] };
    case 3:
      return { method: 'POST', path: 'rollback', body: { revision: one }, allows: [one] };
    case BUILD:
    case 5: {
      const needs = `crash${last + 1}`;
      const body = { code: `import ${needs}\n${CODE(last + 1)}`, requirements: needs };
      return { method: 'POST', path: 'revisions', body, allows: [last + 1], needs };
    }
    case 6:
      return { method: 'PUT', path: 'traffic', body: { mode: 'auto' }, allows: ready };
    default: {
      const percent = random.integer(1, 99);
      const halves = [
        { revision: one, percent },
        { revision: other, percent: 100 - percent },
      ];
      const targets = one === other ? [{ revision: one, percent: 100 }] : halves;
      return { method: 'PUT', path: 'traffic', body: { targets }, allows: [one, other] };
    }
  }
}
