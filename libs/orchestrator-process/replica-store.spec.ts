import { mkdir, mkdtemp, readdir, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { POOL, type ReplicaRecord, ReplicaStore } from './replica-store.js';

let folder: string;
let store: ReplicaStore;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'faas-store-'));
  store = new ReplicaStore(folder, 'owner', { first: 61_000, count: 3 });
});
afterEach(() => rm(folder, { recursive: true }));

it('gives no two replicas one user', async () => {
  const claims = [await store.claim('a'), await store.claim('b'), await store.claim(POOL)];
  expect(new Set(claims.map(({ uid }) => uid))).toEqual(new Set([61_000, 61_001, 61_002]));
  await expect(store.claim('c')).rejects.toThrow('no uid is free');
});

it.runIf(process.platform === 'linux')('gives no replica a user that something runs as', async () => {
  const uid = process.geteuid?.() ?? 0;
  const taken = new ReplicaStore(folder, 'owner', { first: uid, count: 1 });
  await expect(taken.claim('a')).rejects.toThrow('no uid is free');
});

it('moves a worker of the pool to its function, under the name of its user', async () => {
  const { uid, ...member } = await store.claim(POOL);
  const record = { ...member, uid, revision: 1, hash: 'h', timeoutMs: 1, startedAt: 0, credential: 'c' };
  await store.save({ ...record, process: undefined, drainUntil: undefined, serves: false } satisfies ReplicaRecord);
  const place = await store.move(member, 'abc');
  expect(await store.load(POOL)).toEqual([]);
  expect(await store.load('abc')).toMatchObject([{ ...place, functionId: 'abc', uid, serves: false }]);
});

it('tells folders without a record apart, and those that another manager may be making', async () => {
  const { uid, ...place } = await store.claim('abc');
  expect(await store.load('abc')).toEqual([]);
  expect(await store.look('abc')).toEqual({ records: [], halfMade: [{ ...place, uid, process: undefined }] });
  expect(await store.isOlder(place, 10_000)).toBe(false);
  await utimes(store.dir(place), new Date(0), new Date(0));
  expect(await store.isOlder(place, 10_000)).toBe(true);
  expect(await readdir(store.functionDir('abc'))).toHaveLength(1);
});

it('takes no folder of another naming for that of a user', async () => {
  const place = { functionId: 'abc', replica: `abc-${(62_000).toString(16).padStart(8, '0')}` };
  await mkdir(store.dir(place), { recursive: true });
  expect(await store.look('abc')).toEqual({
    records: [],
    halfMade: [{ ...place, uid: undefined, process: undefined }],
  });
});
