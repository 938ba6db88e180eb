import { describe, expect, it } from 'vitest';
import { DemandMeter } from './demand-meter.js';

function after(calls: number, ms: number, meter = new DemandMeter(0, 60_000), from = 0): DemandMeter {
  for (let at = from + 250; at <= from + ms; at += 250) meter.read(calls, at);
  return meter;
}

describe('DemandMeter', () => {
  it('sees a burst within seconds', () => {
    const meter = after(100, 3_000);
    expect(meter.callsNow).toBeGreaterThan(80);
    expect(meter.callsLately).toBe(meter.callsNow);
  });

  it.each([3_000, 120_000])('remembers a load of %i ms for a minute after its end, and no longer', (ms) => {
    const meter = after(100, ms);
    after(1, 59_000, meter, ms);
    expect(meter.callsNow).toBeLessThan(2);
    expect(meter.callsLately).toBeGreaterThan(80);
    after(1, 15_000, meter, ms + 59_000);
    expect(meter.callsLately).toBeLessThan(2);
  });

  it('has no demand in the end', () => {
    expect(after(0, 300_000, after(100, 60_000), 60_000).isStill).toBe(true);
  });

  it('counts a reading for as long as it lasted, however seldom it is read', () => {
    const often = after(10, 2_000);
    const once = new DemandMeter(0, 60_000);
    once.read(10, 2_000);
    expect(once.callsNow).toBeCloseTo(often.callsNow, 5);
  });
});
