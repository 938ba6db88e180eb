import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { describe, expect, it } from 'vitest';
import { Batch } from './batch.js';

/** Statements that end when they are told to, with what they were given. */
function statements(fault: (items: readonly number[]) => Error | undefined = () => undefined) {
  const begun: (readonly number[])[] = [];
  const ends: (() => void)[] = [];
  const batch = new Batch<number, string>(async (items) => {
    begun.push(items);
    await new Promise<void>((resolve) => ends.push(resolve));
    const error = fault(items);
    if (error !== undefined) throw error;
    return items.map((item) => `of ${item}`);
  });
  const endNext = async () => {
    await expect.poll(() => ends.length).toBeGreaterThan(0);
    ends.shift()?.();
  };
  return { batch, begun, endNext };
}

describe('Batch', () => {
  it('lets the first request wait for nothing, and makes one statement of those that come meanwhile', async () => {
    const { batch, begun, endNext } = statements();
    const first = batch.add(1);
    expect(begun).toEqual([[1]]);
    const others = [batch.add(2), batch.add(3), batch.add(2)];
    await endNext();
    expect(await first).toBe('of 1');
    await endNext();
    expect(await Promise.all(others)).toEqual(['of 2', 'of 3', 'of 2']);
    expect(begun).toEqual([[1], [2, 3, 2]]);
  });

  it('puts no more into a statement than it may carry, but for one that alone is more', async () => {
    const begun: (readonly number[])[] = [];
    const weight = { of: (item: number) => item, most: 10 };
    const batch = new Batch<number, void>(
      async (items) => {
        begun.push(items);
        return items.map(() => undefined);
      },
      3,
      weight,
    );
    await Promise.all([1, 4, 6, 1, 20, 2, 2, 2, 2].map((item) => batch.add(item)));
    expect(begun).toEqual([[1], [4, 6], [1], [20], [2, 2, 2], [2]]);
  });

  it('tries each alone when the database refuses a statement, so that one fault is not the others', async () => {
    const { batch, endNext } = statements((items) => (items.includes(3) ? new Error('unstorable') : undefined));
    const settled = Promise.allSettled([1, 2, 3, 4].map((item) => batch.add(item)));
    for (let statement = 0; statement < 5; statement += 1) await endNext();
    expect((await settled).map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
  });

  it('tells all of a database that is away, without trying each, and goes on afterwards', async () => {
    let away = true;
    const { batch, begun, endNext } = statements(() => (away ? new DatabaseUnavailable(new Error('gone')) : undefined));
    const settled = Promise.allSettled([1, 2, 3].map((item) => batch.add(item)));
    await endNext();
    await endNext();
    expect((await settled).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(begun).toEqual([[1], [2, 3]]);
    away = false;
    const later = batch.add(4);
    await endNext();
    expect(await later).toBe('of 4');
  });

  it('tries no further once a statement takes longer than any may', async () => {
    const slow = Object.assign(new Error('canceling statement due to statement timeout'), { code: '57014' });
    const fault = (items: readonly number[]) => (items.length > 1 ? new Error('unstorable') : slow);
    const { batch, begun, endNext } = statements((items) => (items.includes(0) ? undefined : fault(items)));
    const settled = Promise.allSettled([0, 1, 2, 3].map((item) => batch.add(item)));
    for (let statement = 0; statement < 3; statement += 1) await endNext();
    expect((await settled).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'rejected']);
    expect(begun).toEqual([[0], [1, 2, 3], [1]]);
  });

  it('keeps a statement short, however many ask', async () => {
    const { batch, begun, endNext } = statements();
    const all = Array.from({ length: 600 }, (_, item) => batch.add(item));
    for (let statement = 0; statement < 4; statement += 1) await endNext();
    await Promise.all(all);
    expect(begun.map(({ length }) => length)).toEqual([1, 256, 256, 87]);
  });
});
