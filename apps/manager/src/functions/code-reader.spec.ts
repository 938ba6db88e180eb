import { describe, expect, it } from 'vitest';
import { CodeReader } from './code-reader.js';
import type { FunctionRepository } from './function.repository.js';
import { RevisionEntity } from './revision.entity.js';

describe('CodeReader', () => {
  it('reads one file at a time, and once for all who ask for it meanwhile', async () => {
    const asked: [string, PromiseWithResolvers<RevisionEntity | null>][] = [];
    const repository: Pick<FunctionRepository, 'revision'> = {
      revision: (id) => {
        const answer = Promise.withResolvers<RevisionEntity | null>();
        asked.push([id, answer]);
        return answer.promise;
      },
    };
    const reader = new CodeReader(repository);
    const code = Buffer.from('x');
    const revision = Object.assign(new RevisionEntity(), { code });
    const reads = [reader.read('a', 1), reader.read('b', 1), reader.read('a', 1)] as const;
    await Promise.resolve();
    expect(asked.map(([id]) => id)).toEqual(['a']);
    asked[0]![1].resolve(revision);
    expect([await reads[0], await reads[2]]).toEqual([code, code]);
    expect(asked.map(([id]) => id)).toEqual(['a', 'b']);
    const next = reader.read('a', 1);
    asked[1]![1].reject(new Error('the database is away'));
    await expect(reads[1]).rejects.toThrow('away');
    await new Promise((resolve) => setImmediate(resolve));
    asked[2]![1].resolve(null);
    expect(await next).toBeNull();
  });
});
