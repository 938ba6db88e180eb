import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decide, type Overlap, passedBetween, shortestGap, timesAfter, type Timing } from './schedule.js';

const texts = (times: readonly Date[]) => times.map((time) => time.toISOString().replace(/:00\.000Z$/, ''));
const after = (cron: string, timezone: string, moment: string, count: number) =>
  texts(timesAfter({ cron, timezone }, new Date(moment), count));

describe('a calendar', () => {
  it.each([
    ['*/20 8 * * *', ['2026-11-24T08:00', '2026-11-24T08:20', '2026-11-24T08:40']],
    ['@daily', ['2026-11-24T00:00', '2026-11-25T00:00', '2026-11-26T00:00']],
    ['@hourly', ['2026-11-23T13:00', '2026-11-23T14:00', '2026-11-23T15:00']],
    ['0 9 * * MON', ['2026-11-30T09:00', '2026-12-07T09:00', '2026-12-14T09:00']],
    ['0 0 L * *', ['2026-11-30T00:00', '2026-12-31T00:00', '2027-01-31T00:00']],
    ['0 0 29 2 *', ['2028-02-29T00:00', '2032-02-29T00:00', '2036-02-29T00:00']],
    ['0 30 12 * * *', ['2026-11-23T12:30', '2026-11-24T12:30', '2026-11-25T12:30']],
  ])('has the next times of %s', (cron, times) => {
    expect(after(cron, 'UTC', '2026-11-23T12:00:00Z', 3)).toEqual(times);
  });

  // Clocks go from 2:00 to 3:00 at 1:00 UTC in Berlin, and at 16:00 UTC of the day before in Sydney.
  it.each([
    ['Europe/Berlin', '2026-03-28T12:00:00Z', '30 2 * * *', ['2026-03-29T01:00', '2026-03-30T00:30']],
    ['Europe/Berlin', '2026-03-28T12:00:00Z', '30 2,14 * * *', ['2026-03-28T13:30', '2026-03-29T01:00']],
    ['Europe/Berlin', '2026-03-29T00:30:00Z', '*/30 * * * *', ['2026-03-29T01:00', '2026-03-29T01:30']],
    ['Europe/Berlin', '2026-03-28T23:30:00Z', '0 */2 * * *', ['2026-03-29T02:00', '2026-03-29T04:00']],
    ['Australia/Sydney', '2026-10-03T12:00:00Z', '30 2 * * *', ['2026-10-03T16:00', '2026-10-04T15:30']],
    ['Australia/Sydney', '2026-10-03T15:45:00Z', '*/15 * * * *', ['2026-10-03T16:00', '2026-10-03T16:15']],
  ])('in %s from %s on fires %s at the end of the hour that is skipped, or not in it', (zone, from, cron, times) => {
    expect(after(cron, zone, from, 2)).toEqual(times);
  });

  it.each([
    ['Europe/Berlin', '2026-10-24T12:00:00Z', '30 2 * * *', ['2026-10-25T00:30', '2026-10-26T01:30']],
    ['Europe/Berlin', '2026-10-25T00:15:00Z', '*/30 2 * * *', ['2026-10-25T00:30', '2026-10-25T01:00']],
    ['Europe/Berlin', '2026-10-25T01:00:00Z', '*/30 2 * * *', ['2026-10-25T01:30', '2026-10-26T01:00']],
    ['Australia/Sydney', '2026-04-04T12:00:00Z', '30 2 * * *', ['2026-04-04T15:30', '2026-04-05T16:30']],
    ['Australia/Sydney', '2026-04-04T15:15:00Z', '0,30 * * * *', ['2026-04-04T15:30', '2026-04-04T16:00']],
  ])('in %s from %s on fires %s once or twice in the hour that comes twice', (zone, from, cron, times) => {
    expect(after(cron, zone, from, 2)).toEqual(times);
  });

  // Half an hour: at 15:30 UTC from 2:00 to 2:30, and at 15:00 UTC from 2:00 back to 1:30.
  it.each([
    ['2026-10-03T12:00:00Z', '15 2 * * *', ['2026-10-03T15:30', '2026-10-04T15:15']],
    ['2026-10-03T15:15:00Z', '*/10 * * * *', ['2026-10-03T15:20', '2026-10-03T15:30']],
    ['2026-04-04T12:00:00Z', '45 1 * * *', ['2026-04-04T14:45', '2026-04-05T15:15']],
    ['2026-04-04T14:40:00Z', '*/15 * * * *', ['2026-04-04T14:45', '2026-04-04T15:00']],
    ['2026-04-04T15:00:00Z', '*/15 1 * * *', ['2026-04-04T15:15', '2026-04-05T14:30']],
  ])('on Lord Howe Island from %s on fires %s by its half an hour', (from, cron, times) => {
    expect(after(cron, 'Australia/Lord_Howe', from, 2)).toEqual(times);
  });

  it('never has a time twice, nor one that is not after the former', () => {
    const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Pacific/Apia', 'Asia/Kathmandu'];
    const minute = fc.oneof(fc.constant('*'), fc.constant('*/7'), fc.integer({ min: 0, max: 59 }).map(String));
    const hour = fc.oneof(fc.constant('*'), fc.constant('*/3'), fc.constant('1,2,3'), fc.constant('2'));
    const moment = fc.date({ min: new Date('2020-01-01'), max: new Date('2035-01-01'), noInvalidDate: true });
    fc.assert(
      fc.property(minute, hour, fc.constantFrom(...zones), moment, (m, h, timezone, from) => {
        const times = timesAfter({ cron: `${m} ${h} * * *`, timezone }, from, 8);
        expect(times).toHaveLength(8);
        for (const [index, time] of times.entries()) expect(time > (times[index - 1] ?? from)).toBe(true);
        const [first, last] = [times[0]!, times[7]!];
        const timing = { cron: `${m} ${h} * * *`, timezone };
        expect(passedBetween(timing, first, last)).toEqual({ count: 7, latest: last, former: times[6] });
        expect(passedBetween(timing, first, new Date(last.getTime() - 1))?.latest).toEqual(times[6]);
      }),
      { numRuns: 60 },
    );
  });

  it('finds the last of thousands of times, and counts some of them', () => {
    const timing = { cron: '*/10 * * * *', timezone: 'Europe/Berlin' };
    const upTo = new Date('2026-11-23T12:05:00.500Z');
    expect(passedBetween(timing, new Date('2025-11-23T12:00:00Z'), upTo)).toEqual({
      count: 20,
      latest: new Date('2026-11-23T12:00:00Z'),
      former: new Date('2026-11-23T11:50:00Z'),
    });
    expect(passedBetween(timing, new Date('2025-11-23T12:00:00Z'), new Date('2026-11-23T12:00:00Z'))?.latest).toEqual(
      new Date('2026-11-23T12:00:00Z'),
    );
  });

  it('knows how close its times are', () => {
    const from = new Date('2026-11-23T12:00:00Z');
    expect(shortestGap({ cron: '0,5 * * * *', timezone: 'UTC' }, from)).toBe(300_000);
    expect(shortestGap({ intervalMs: 7_000, anchorAt: from }, from)).toBe(7_000);
  });
});

describe('an interval', () => {
  const anchorAt = new Date('2026-11-23T12:00:00.250Z');
  const timing: Timing = { intervalMs: 1_500, anchorAt };

  it('is counted from its beginning, whenever it is asked for', () => {
    const times = timesAfter(timing, anchorAt, 3).map((time) => time.getTime() - anchorAt.getTime());
    expect(times).toEqual([1_500, 3_000, 4_500]);
    const late = new Date(anchorAt.getTime() + 3_000);
    expect(timesAfter(timing, late, 1)[0]!.getTime() - anchorAt.getTime()).toBe(4_500);
    expect(timesAfter(timing, new Date(anchorAt.getTime() - 60_000), 1)[0]!.getTime() - anchorAt.getTime()).toBe(1_500);
  });

  it('counts what has passed', () => {
    const first = new Date(anchorAt.getTime() + 1_500);
    expect(passedBetween(timing, first, new Date(first.getTime() + 1_499))).toBeUndefined();
    expect(passedBetween(timing, first, new Date(first.getTime() + 15_001))).toEqual({
      count: 10,
      latest: new Date(first.getTime() + 15_000),
      former: new Date(first.getTime() + 13_500),
    });
  });
});

describe('a schedule that is due', () => {
  const base = Date.parse('2026-11-23T12:00:00Z');
  const at = (seconds: number) => new Date(base + seconds * 1_000);
  const after = (seconds: number, isOpen: boolean, overlap: Overlap, more: object = {}) =>
    decide(
      {
        ...{ cron: null, timezone: 'UTC', intervalMs: 60_000, anchorAt: at(-60), nextAt: at(0), jitterMs: 0 },
        ...{ isHeld: false, overlap, catchUpMs: 3_600_000 },
        ...more,
      },
      isOpen,
      at(seconds),
    );

  it('fires for its time, and then for the next', () => {
    expect(after(0.1, false, 'skip')).toEqual({ fires: at(0), missed: [], isHeld: false, nextAt: at(60) });
  });

  it('fires each of its times while it is not late', () => {
    const often = { intervalMs: 1_000, anchorAt: at(-1) };
    expect(after(5, false, 'skip', often)).toMatchObject({ fires: at(0), missed: [], nextAt: at(1) });
  });

  it('makes up for the last time that was missed, once', () => {
    const missed = [{ reason: 'late', count: 3, last: at(120) }];
    expect(after(190, false, 'skip')).toEqual({ fires: at(180), missed, isHeld: false, nextAt: at(240) });
    const one = after(30, false, 'skip');
    expect(one).toEqual({ fires: at(0), missed: [], isHeld: false, nextAt: at(60) });
  });

  it('makes up for none that is longer ago than it may be', () => {
    const late = { reason: 'late', count: 1, last: at(0) };
    expect(after(30, false, 'skip', { catchUpMs: 0 })).toEqual({
      fires: null,
      missed: [late],
      isHeld: false,
      nextAt: at(60),
    });
    expect(after(30, false, 'skip', { catchUpMs: 29_999 })).toMatchObject({ fires: null });
    expect(after(30, false, 'skip', { catchUpMs: 30_000 })).toMatchObject({ fires: at(0) });
    // The last one of them may be on time.
    expect(after(125, false, 'skip', { catchUpMs: 0 })).toMatchObject({
      fires: at(120),
      missed: [{ reason: 'late', count: 2, last: at(60) }],
    });
  });

  it('is not late by its jitter', () => {
    const jitter = { jitterMs: 40_000, catchUpMs: 0 };
    expect(after(45, false, 'skip', jitter)).toMatchObject({ fires: at(0), missed: [] });
    expect(after(55, false, 'skip', jitter)).toMatchObject({ fires: null, missed: [{ reason: 'late', count: 1 }] });
  });

  it('leaves a time out while an earlier call runs', () => {
    const missed = [{ reason: 'overlap', count: 1, last: at(0) }];
    expect(after(0.1, true, 'skip')).toEqual({ fires: null, missed, isHeld: false, nextAt: at(60) });
    expect(after(0.1, true, 'allow')).toMatchObject({ fires: at(0), missed: [] });
  });

  it('has one time wait for the earlier call, and leaves out those that pass meanwhile', () => {
    expect(after(0.1, true, 'queue')).toEqual({ fires: null, missed: [], isHeld: true, nextAt: at(0) });
    const held = { isHeld: true };
    expect(after(130, true, 'queue', held)).toEqual({ fires: null, missed: [], isHeld: true, nextAt: at(0) });
    const missed = [{ reason: 'overlap', count: 2, last: at(120) }];
    // However long it took: nobody was late.
    expect(after(130, false, 'queue', { ...held, catchUpMs: 0 })).toEqual({
      fires: at(0),
      missed,
      isHeld: false,
      nextAt: at(180),
    });
    // It was changed meanwhile.
    expect(after(130, true, 'allow', held)).toMatchObject({ fires: at(0), missed, nextAt: at(180) });
    expect(after(130, true, 'skip', held)).toMatchObject({ fires: null, isHeld: false, nextAt: at(180) });
    expect(after(30, false, 'queue', held)).toEqual({ fires: at(0), missed: [], isHeld: false, nextAt: at(60) });
  });
});
