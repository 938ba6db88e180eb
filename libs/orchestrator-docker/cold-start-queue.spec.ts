import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ColdStartQueue } from './cold-start-queue.js';

let called: string[];
let starts: ColdStartQueue;

beforeEach(() => {
  vi.useFakeTimers();
  called = [];
  starts = new ColdStartQueue((functionId) => called.push(functionId), 2);
});
afterEach(() => {
  starts.stop();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

const fill = () =>
  expect(['a', 'b', 'c', 'd', 'e'].map((id) => starts.begin(id, true))).toEqual([true, true, false, false, false]);

describe('Cold starts', () => {
  it('are no more at once than there may be, and the others are called in the order they came', () => {
    fill();
    starts.ended('b');
    expect(called).toEqual(['c']);
    starts.ended('a');
    expect(called).toEqual(['c', 'd']);
    expect(['e', 'd', 'c'].map((id) => starts.begin(id, true))).toEqual([false, true, true]);
    starts.ended('d');
    expect(called).toEqual(['c', 'd', 'e']);
  });

  it('keep a place for whose turn has come', () => {
    fill();
    starts.ended('a');
    expect(starts.begin('late', true)).toBe(false);
    expect(starts.begin('c', true)).toBe(true);
    expect(starts.begin('c', true)).toBe(false);
  });

  it('go on without one that does not begin when its turn has come, or was removed', () => {
    fill();
    starts.leave('d');
    starts.ended('a');
    expect(called).toEqual(['c']);
    vi.advanceTimersByTime(6_000);
    expect(called).toEqual(['c', 'e']);
  });

  it('hold nobody up for longer than a start takes', () => {
    fill();
    vi.advanceTimersByTime(11_000);
    expect(called.slice(0, 2)).toEqual(['c', 'd']);
  });

  it('count one end for one start of a function with many replicas', () => {
    expect([
      starts.begin('a', true),
      starts.begin('a', true),
      starts.begin('a', true),
      starts.begin('b', true),
    ]).toEqual([true, true, false, false]);
    starts.ended('a');
    expect(called).toEqual(['a']);
    starts.ended('unknown');
    expect(called).toEqual(['a']);
  });

  it('know of what waits whether there is anything to look at', () => {
    fill();
    starts.begin('f', false);
    expect(['a', 'c', 'f', 'other'].map((id) => starts.hasNothingYet(id))).toEqual([false, true, false, false]);
    starts.ended('a');
    expect(starts.hasNothingYet('c')).toBe(false);
  });

  it('are waited for while any function has not begun', () => {
    fill();
    expect([starts.hasWaiting, starts.isWaiting('e'), starts.isWaiting('a')]).toEqual([true, true, false]);
    for (const id of ['c', 'd', 'e']) starts.leave(id);
    expect(starts.hasWaiting).toBe(false);
  });
});
