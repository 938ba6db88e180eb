import { describe, expect, it } from 'vitest';
import { CallTiming } from './call-timing.js';

describe('CallTiming', () => {
  it('tells the time of queue, worker and manager apart, over several attempts', () => {
    const timing = new CallTiming();
    const at = (ms: number) => timing.startedAt + ms;
    timing.received(at(10));
    timing.waits(at(11));
    timing.sends(at(31));
    expect(timing.returns(at(36))).toBeCloseTo(5);
    timing.waits(at(36));
    timing.sends(at(37));
    expect(timing.header(at(40))).toBe('queue;dur=21, worker;dur=8, total;dur=40');
    expect(timing.returns(at(137))).toBeCloseTo(100);
    expect(timing.header(at(140))).toBe('queue;dur=21, worker;dur=105, total;dur=140');
    expect(timing.overheadMs(at(140))).toBeCloseTo(4);
  });

  it('counts the wait of a call that never got a slot', () => {
    const timing = new CallTiming();
    timing.waits(timing.startedAt + 1);
    expect(timing.header(timing.startedAt + 51.237)).toBe('queue;dur=50.24, worker;dur=0, total;dur=51.24');
  });
});
