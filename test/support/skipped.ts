import { describe, it } from 'vitest';

/** In place of a suite that can't run here: a name in the report that says why. */
export function describeSkipped(title: string, reason: string): void {
  describe.skip(`${title} (${reason})`, () => it('is skipped', () => undefined));
}
