import { mkdtemp, mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UidClaims, uidRangeIn } from './isolation.js';
import type { ProcessTable } from './process-table.js';

const NOBODY_RUNS = { read: async () => [] } as unknown as ProcessTable;

describe('UidClaims', () => {
  let folder: string;
  let claims: UidClaims;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'claims-'));
    claims = new UidClaims(folder, { first: 1_000_000, count: 3 }, NOBODY_RUNS);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const replica = async (name: string) => {
    await mkdir(join(folder, name));
    return join(folder, name);
  };
  const left = () => readdir(join(folder, '.uids'));

  it('gives every replica a uid of its own, and says so when all are taken', async () => {
    const uids = [
      await claims.claim(await replica('a')),
      await claims.claim(await replica('b')),
      await claims.claim(await replica('c')),
    ];
    expect(new Set(uids).size).toBe(3);
    await expect(claims.claim(await replica('d'))).rejects.toThrow('Every uid');
    await claims.release(uids[0]!);
    expect(await claims.claim(join(folder, 'd'))).toBe(uids[0]);
  });

  it('keeps the claims of replicas that are there and removes those of replicas that are gone', async () => {
    const kept = await claims.claim(await replica('kept'));
    await claims.claim(await replica('gone'));
    await rm(join(folder, 'gone'), { recursive: true });
    await claims.tidy();
    expect(await left()).toEqual([String(kept)]);
  });

  it('removes a claim that its manager was killed in the midst of, but not one just being made', async () => {
    await claims.release(await claims.claim(await replica('any')));
    const [forgotten, fresh] = [join(folder, '.uids', '1000000'), join(folder, '.uids', '1000001')];
    await writeFile(forgotten, '');
    await writeFile(fresh, '');
    const longAgo = new Date(Date.now() - 60_000);
    await utimes(forgotten, longAgo, longAgo);
    await claims.tidy();
    expect(await left()).toEqual(['1000001']);
  });
});

describe('uidRangeIn', () => {
  it('finds a range that the user namespace maps, or none', () => {
    expect(uidRangeIn('0 0 4294967295')).toMatchObject({ first: 1_900_000_000 });
    expect(uidRangeIn('0 100000 1000')).toBeUndefined();
  });
});
