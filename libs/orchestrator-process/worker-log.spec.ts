import { appendFile, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type ReplicaRecord, ReplicaStore } from './replica-store.js';
import { WorkerLogs } from './worker-log.js';

const record: ReplicaRecord = {
  replica: 'abc-00000001',
  functionId: 'abc',
  revision: 1,
  hash: 'h',
  timeoutMs: 1_000,
  startedAt: 0,
  uid: undefined,
  process: undefined,
  drainUntil: undefined,
  credential: 'c',
};
let folder: string;
let store: ReplicaStore;
let logs: WorkerLogs;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'faas-log-'));
  store = new ReplicaStore(folder, 'owner');
  logs = new WorkerLogs(store);
  await mkdir(store.dir(record), { recursive: true });
  await store.save(record);
});
afterEach(() => rm(folder, { recursive: true }));

async function newest(tail: number): Promise<string[]> {
  const found: string[] = [];
  const options = { tail, follow: false, signal: AbortSignal.timeout(5_000) };
  for await (const { text } of logs.read('abc', options)) found.push(text);
  return found;
}

it('shows whole lines only', async () => {
  await writeFile(store.log(record), 'one\ntwo\nthr');
  expect(await newest(10)).toEqual(['one', 'two']);
  await appendFile(store.log(record), 'ee\n');
  expect(await newest(2)).toEqual(['two', 'three']);
});

it('cuts a log that is too long, and goes on', async () => {
  const line = `${'x'.repeat(1023)}\n`;
  await writeFile(store.log(record), line.repeat(5 * 1024));
  await logs.rotate(record);
  await appendFile(store.log(record), 'after\n');
  const { size } = await stat(store.log(record));
  expect(size).toBe('after\n'.length);
  const found = await newest(2);
  expect(found.at(-1)).toBe('after');
  expect(found).toHaveLength(2);
  const kept = await stat(`${store.log(record)}.1`);
  expect(kept.size).toBeLessThanOrEqual(1024 * 1024);
});

it('keeps the log of a replica that is gone, and only of the last ones', async () => {
  for (const word of ['first', 'second', 'third']) {
    const ended = { ...record, replica: `abc-${word}` };
    await mkdir(store.dir(ended));
    await writeFile(store.log(ended), `${word}\n`);
    await logs.keep(ended);
  }
  expect(await newest(10)).toEqual(['second', 'third']);
});
