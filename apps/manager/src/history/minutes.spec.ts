import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EndedCall } from '../gateway/call-ends.js';
import { CallTiming } from '../gateway/call-timing.js';
import { CANCELLED, Minutes, MOST_MINUTES, quantileOf } from './minutes.js';

const MINUTE_MS = 60_000;

function call(
  ms: number,
  { at = 0, id = 'aaaaaaaaaaaaaaaa', revision = 1, ...rest }: Record<string, unknown> = {},
): EndedCall {
  const timing = Object.assign(new CallTiming(), { startedAt: at, calledId: id, revision, sentAt: 1 });
  return {
    id: 'an-id',
    kind: 'execute',
    requestId: 'a-request',
    timing,
    code: undefined,
    detail: undefined,
    endedAt: (at as number) + ms,
    createdBy: null,
    attemptOf: undefined,
    exchanged: undefined,
    ...rest,
  };
}

/** Of calls that have begun so long after this moment as each says. */
function minutesOf(calls: readonly EndedCall[], origin: number) {
  const minutes = new Minutes();
  for (const one of calls) minutes.add(one, origin + one.endedAt);
  return minutes.take(MOST_MINUTES);
}

describe('sums by the minute', () => {
  it('are of each function, revision and minute, in one order', () => {
    const calls = [
      call(1, { id: 'bbbbbbbbbbbbbbbb' }),
      call(1, { at: MINUTE_MS }),
      call(1, { revision: 2, code: 'handler_error' }),
      call(1, { code: CANCELLED }),
      call(1),
      call(1, { kind: 'run' }),
    ];
    expect(
      minutesOf(calls, 10 * MINUTE_MS).map(({ functionId, at, revision, calls: all, failed, cancelled }) => ({
        of: `${functionId[0]}${revision} ${at / MINUTE_MS}`,
        counts: [all, failed, cancelled],
      })),
    ).toEqual([
      { of: 'a1 10', counts: [2, 0, 1] },
      { of: 'a2 10', counts: [1, 1, 0] },
      { of: 'a1 11', counts: [1, 0, 0] },
      { of: 'b1 10', counts: [1, 0, 0] },
    ]);
  });

  it('leave calls out of the durations that no worker had', () => {
    const refused = call(1, { code: 'function_overloaded' });
    refused.timing.sentAt = 0;
    expect(minutesOf([refused], 0)).toMatchObject([{ calls: 1, failed: 1, durations: [] }]);
    expect(quantileOf([], 0.5)).toBeNull();
  });

  it('are of so many functions at most, and are taken bit by bit', () => {
    const minutes = new Minutes();
    const id = (n: number) => `function-${String(n).padStart(7, '0')}`;
    for (let n = 0; n < MOST_MINUTES; n += 1) expect(minutes.add(call(1, { id: id(n) }), 0)).toBe(true);
    expect(minutes.add(call(1, { id: id(MOST_MINUTES) }), 0)).toBe(false);
    expect(minutes.add(call(1, { id: id(1) }), 0)).toBe(true);
    expect(minutes.take(2)).toMatchObject([{ functionId: id(0) }, { functionId: id(1), calls: 2 }]);
    expect(minutes.size).toBe(MOST_MINUTES - 2);
  });

  it('tell quantiles within a tenth', () => {
    const durations = fc.array(fc.double({ min: 0.2, max: 3_600_000, noNaN: true }), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(durations, fc.constantFrom(0.5, 0.95, 0.99), (all, part) => {
        const [minute] = minutesOf(
          all.map((ms) => call(ms)),
          0,
        );
        const exact = all.toSorted((a, b) => a - b)[Math.ceil(part * all.length) - 1] as number;
        const told = quantileOf(minute?.durations ?? [], part) as number;
        // A bucket ends at 1.19 times what it begins at.
        expect(told).toBeGreaterThan(exact / 1.2);
        expect(told).toBeLessThan(exact * 1.2);
      }),
    );
  });
});
