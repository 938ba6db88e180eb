import type { Random } from './random.js';

export type Victim = 'manager' | 'managers' | 'worker' | 'database' | 'nobody';

/** What a user asks for while something is killed. */
export interface Change {
  readonly method: 'POST' | 'PUT';
  readonly path: 'revisions' | 'rollback' | 'traffic';
  readonly body: object;
  /** What calls may answer because of it; a revision answers with its number. */
  readonly allows: readonly number[];
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
const LONGEST_MS = 400;
const CODE = (number: number) => `def handle(payload):\n    return ${number}\n`;

/**
 * @param ready the revisions that can serve, the newest last
 * @param last the highest number that was ever given
 */
export function planUpdate(random: Random, ready: readonly number[], last: number): UpdateRound {
  return {
    change: changeOf(random, ready, last),
    victim: random.pick(VICTIMS),
    at: random.integer(0, LONGEST_MS),
    downFor: random.integer(0, LONGEST_MS),
    asked: random.integer(0, 1),
    which: random.integer(0, 1),
  };
}

function changeOf(random: Random, ready: readonly number[], last: number): Change {
  const [one, other] = [random.pick(ready), random.pick(ready)];
  switch (random.integer(0, 5)) {
    case 0:
    case 1:
      return { method: 'POST', path: 'revisions', body: { code: CODE(last + 1) }, allows: [last + 1] };
    case 2:
      return { method: 'POST', path: 'revisions', body: { code: 'def handle(:\n' }, allows: [] };
    case 3:
      return { method: 'POST', path: 'rollback', body: { revision: one }, allows: [one] };
    case 4:
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
