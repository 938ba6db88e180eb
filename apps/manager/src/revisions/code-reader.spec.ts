import { afterEach, describe, expect, it, vi } from 'vitest';
import { CodeReader } from './code-reader.js';
import type { FunctionRepository } from '../functions/function.repository.js';
import { RevisionEntity } from './revision.entity.js';

describe('CodeReader', () => {
  const code = Buffer.from('x');
  const revision = Object.assign(new RevisionEntity(), { code });
  const stays = new AbortController().signal;
  /** What the database was asked for, to be answered by the test. */
  const start = () => {
    const asked: [string, PromiseWithResolvers<RevisionEntity | null>][] = [];
    const repository: Pick<FunctionRepository, 'revision'> = {
      revision: (id) => {
        const answer = Promise.withResolvers<RevisionEntity | null>();
        asked.push([id, answer]);
        return answer.promise;
      },
    };
    return { reader: new CodeReader(repository), asked, ids: () => asked.map(([id]) => id) };
  };
  afterEach(() => {
    vi.useRealTimers();
  });

  it('reads one file at a time, and once for all who ask for it meanwhile', async () => {
    const { reader, asked, ids } = start();
    const reads = [reader.read('a', 1, stays), reader.read('b', 1, stays), reader.read('a', 1, stays)] as const;
    await vi.waitFor(() => expect(ids()).toEqual(['a']));
    asked[0]![1].resolve(revision);
    expect([await reads[0], await reads[2]]).toEqual([code, code]);
    await vi.waitFor(() => expect(ids()).toEqual(['a', 'b']));
    const next = reader.read('a', 1, stays);
    asked[1]![1].reject(new Error('the database is away'));
    await expect(reads[1]).rejects.toThrow('away');
    await vi.waitFor(() => expect(ids()).toEqual(['a', 'b', 'a']));
    asked[2]![1].resolve(null);
    expect(await next).toBeNull();
  });

  it('reads nothing for readers that have left, and returns to them at once', async () => {
    const { reader, asked, ids } = start();
    const leaving = new AbortController();
    const first = reader.read('a', 1, stays);
    const left = [reader.read('b', 1, leaving.signal), reader.read('c', 1, leaving.signal)];
    const stayed = reader.read('c', 1, stays);
    leaving.abort();
    expect(await Promise.all(left)).toEqual([null, null]);
    asked[0]![1].resolve(revision);
    expect(await first).toBe(code);
    await vi.waitFor(() => expect(ids()).toEqual(['a', 'c']));
    asked[1]![1].resolve(revision);
    expect(await stayed).toBe(code);
  });

  it('goes on to the next file when a read doesn’t end, and lets no reader wait for ever', async () => {
    vi.useFakeTimers();
    const { reader, ids } = start();
    const away = { code: 'database_unavailable' };
    const outcomes = ['a', 'b', 'c'].map((id) => expect(reader.read(id, 1, stays)).rejects.toMatchObject(away));
    await vi.advanceTimersByTimeAsync(20_100);
    await outcomes[0];
    expect(ids()).toEqual(['a', 'b']);
    await vi.advanceTimersByTimeAsync(10_100);
    await Promise.all(outcomes);
    await vi.advanceTimersByTimeAsync(10_100);
    // Nobody is left who waits for the third.
    expect(ids()).toEqual(['a', 'b']);
  });
});
