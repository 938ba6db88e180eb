import { appendFile, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { PlainLine } from '#libs/orchestrator/replica-log.js';
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

async function newest(tail: number): Promise<PlainLine[]> {
  return Array.fromAsync(logs.of(record).lines({ tail, follow: false, signal: AbortSignal.timeout(5_000) }));
}

async function texts(tail: number): Promise<string[]> {
  return (await newest(tail)).map(({ text }) => text);
}

it('shows whole lines only', async () => {
  await writeFile(store.log(record), 'one\ntwo\nthr');
  expect(await texts(10)).toEqual(['one', 'two']);
  await appendFile(store.log(record), 'ee\n');
  expect(await texts(2)).toEqual(['two', 'three']);
});

it('cuts a log that is too long, and goes on', async () => {
  const line = `${'x'.repeat(1023)}\n`;
  await writeFile(store.log(record), line.repeat(5 * 1024));
  await logs.rotate(record);
  await appendFile(store.log(record), 'after\n');
  const { size } = await stat(store.log(record));
  expect(size).toBe('after\n'.length);
  const found = await texts(2);
  expect(found.at(-1)).toBe('after');
  expect(found).toHaveLength(2);
  const kept = await stat(`${store.log(record)}.1`);
  expect(kept.size).toBeLessThanOrEqual(1024 * 1024);
});

it('reads times and streams as the worker writes them', async () => {
  const [first, second] = ['2026-01-02T03:04:05.000000001Z', '2026-01-02T03:04:05.000000002Z'];
  await writeFile(
    store.log(record),
    `${first} stdout 2030-01-01T00:00:00.000000000Z stderr x\n${second} stderr \nraw\n`,
  );
  expect(await newest(10)).toEqual([
    { time: first, stream: 'stdout', text: '2030-01-01T00:00:00.000000000Z stderr x' },
    { time: second, stream: 'stderr', text: '' },
    { time: '2026-01-02T03:04:05.000000003Z', stream: 'stderr', text: 'raw' },
  ]);
  expect(await logs.tailOf(record)).toEqual(['2030-01-01T00:00:00.000000000Z stderr x', 'raw']);
});

it('goes on from where it was cut, for whoever follows it', async () => {
  await writeFile(store.log(record), `${'x'.repeat(1023)}\n`.repeat(5 * 1024));
  const lines = logs.of(record).lines({ tail: 1, follow: true, signal: AbortSignal.timeout(5_000) });
  const reader = lines[Symbol.asyncIterator]();
  await reader.next();
  await logs.rotate(record);
  await appendFile(store.log(record), 'after\n');
  expect(await reader.next()).toMatchObject({ value: { text: 'after' } });
  await reader.return?.();
});

it('shows whoever follows it what was written just before the cut, once', async () => {
  const stamped = (second: number, text: string) => `2026-01-02T03:04:0${second}.000000000Z stdout ${text}\n`;
  await writeFile(store.log(record), `${'x'.repeat(1023)}\n`.repeat(5 * 1024) + stamped(1, 'seen'));
  const lines = logs.of(record).lines({ tail: 1, follow: true, signal: AbortSignal.timeout(5_000) });
  const reader = lines[Symbol.asyncIterator]();
  expect(await reader.next()).toMatchObject({ value: { text: 'seen' } });
  await appendFile(store.log(record), stamped(2, 'before'));
  await logs.rotate(record);
  await appendFile(store.log(record), stamped(3, 'after'));
  expect(await reader.next()).toMatchObject({ value: { text: 'before' } });
  expect(await reader.next()).toMatchObject({ value: { text: 'after' } });
  await reader.return?.();
});
