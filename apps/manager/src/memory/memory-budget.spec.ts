import { Metrics } from '#libs/observability/metrics.js';
import { describe, expect, it } from 'vitest';
import { FunctionShare, MemoryBudget } from './memory-budget.js';

const KIB = 1024;
const REQUEST = 16 * KIB;
const FULL = { code: 'manager_overloaded', extras: { limit_bytes: 100 * KIB } };
const thrownBy = (act: () => unknown): unknown => {
  try {
    return act();
  } catch (error) {
    return error;
  }
};

describe('MemoryBudget', () => {
  it('takes bytes up to its limit, and as many again when they are released', () => {
    const held = new MemoryBudget({ heldBytes: 100 * KIB }, new Metrics());
    const [one, other] = [held.reserve(), held.reserve()];
    one.add(100 * KIB - 2 * REQUEST);
    expect(thrownBy(() => other.add(1))).toMatchObject(FULL);
    expect(thrownBy(() => held.reserve())).toMatchObject(FULL);
    one[Symbol.dispose]();
    one[Symbol.dispose]();
    other.add(100 * KIB - REQUEST);
    expect(thrownBy(() => other.add(1))).toMatchObject(FULL);
    other[Symbol.dispose]();
    held.reserve().add(100 * KIB - REQUEST);
  });

  it('lets so many requests in, however small they are', () => {
    const held = new MemoryBudget({ heldBytes: 100 * KIB }, new Metrics());
    for (let request = 0; request < 6; request += 1) held.reserve();
    expect(thrownBy(() => held.reserve())).toMatchObject(FULL);
  });

  it('exposes how much it has taken', async () => {
    const metrics = new Metrics();
    const held = new MemoryBudget({ heldBytes: 100 * KIB }, metrics);
    const reservation = held.reserve();
    reservation.add(5);
    expect(await metrics.text()).toContain(`\nfaas_held_bytes ${REQUEST + 5}\n`);
    reservation[Symbol.dispose]();
    expect(await metrics.text()).toMatch(/\nfaas_held_bytes 0\n[^]*\nfaas_held_bytes_limit 102400\n/);
  });

  it('lets the calls of one function and their answers take half of it, until they have been sent', () => {
    const held = new MemoryBudget({ heldBytes: 1_000 * KIB }, new Metrics());
    const [mine, others] = [new FunctionShare(), new FunctionShare()];
    const calls = [held.reserve(), held.reserve()] as const;
    for (const call of calls) call.countFor(mine);
    calls[0].add(300 * KIB);
    calls[1].add(200 * KIB);
    const refusal = { code: 'function_overloaded', kind: 'saturated', extras: { limit_bytes: 500 * KIB } };
    expect(thrownBy(() => calls[1].add(1))).toMatchObject(refusal);
    const other = held.reserve();
    other.countFor(others);
    other.add(300 * KIB);
    calls[0][Symbol.dispose]();
    // What comes late is held by nobody.
    calls[0].add(600 * KIB);
    expect(mine.held).toBe(200 * KIB);
    calls[1][Symbol.dispose]();
    other[Symbol.dispose]();
    expect([mine.held, others.held]).toEqual([0, 0]);
  });

  it('lets a call take more than its function’s share as long as it is the only one', () => {
    const held = new MemoryBudget({ heldBytes: 1_000 * KIB }, new Metrics());
    const share = new FunctionShare();
    const [large, small] = [held.reserve(), held.reserve()];
    for (const call of [large, small]) call.countFor(share);
    large.add(400 * KIB);
    large.add(400 * KIB);
    expect(thrownBy(() => small.add(1))).toMatchObject({ code: 'function_overloaded' });
    large[Symbol.dispose]();
    small.add(800 * KIB);
  });

  it('counts unsent bytes', async () => {
    const metrics = new Metrics();
    const held = new MemoryBudget({ heldBytes: 100 * KIB }, metrics);
    held.noteUnsent(90 * KIB);
    expect(await metrics.text()).toContain(`\nfaas_held_bytes ${90 * KIB}\n`);
    expect(thrownBy(() => held.reserve())).toMatchObject(FULL);
    held.noteUnsent(0);
    held.reserve();
  });

  it('counts uploads several times their size, and fewer times where the largest would not fit', () => {
    const held = new MemoryBudget({ heldBytes: 10_000 * KIB }, new Metrics());
    expect(held.timesOf(3.5, 1_000 * KIB)).toBe(3.5);
    expect(held.timesOf(3.5, 5_000 * KIB)).toBeCloseTo(1.9, 2);
    expect(held.timesOf(3.5, 9_900 * KIB)).toBe(1);
  });
});
