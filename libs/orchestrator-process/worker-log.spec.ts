import { appendFileSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
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

it('keeps what was cut when another manager would cut it at the same time', async () => {
  const all = Array.from({ length: 5 * 1024 }, (_, index) => String(index).padEnd(1023, '.'));
  const other = new WorkerLogs(new ReplicaStore(folder, 'owner'));
  for (let round = 0; round < 40; round += 1) {
    await writeFile(store.log(record), all.map((line) => `${line}\n`).join(''));
    const late = delay(round % 4).then(() => other.rotate(record));
    await Promise.all([logs.rotate(record), late]);
    expect(await texts(500)).toEqual(all.slice(-500));
  }
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

it('loses nothing that is written while it is cut, and shows whoever follows it all of that once', async () => {
  const count = 12_000;
  const lineOf = (number: number) =>
    `2026-01-02T03:04:05.${String(number).padStart(9, '0')}Z stdout ${number} ${'x'.repeat(1_000)}\n`;
  const all = Buffer.from(Array.from({ length: count }, (_, number) => lineOf(number)).join(''));
  const first = lineOf(0).length;
  await writeFile(store.log(record), all.subarray(0, first));
  const over = new AbortController();
  const lines = logs.of(record).lines({ tail: 1, follow: true, signal: over.signal });
  const reader = lines[Symbol.asyncIterator]();
  const seen: number[] = [];
  const next = async () => {
    const { value, done } = await reader.next();
    if (done !== true) seen.push(Number(value.text.split(' ')[0]));
    return done !== true;
  };
  const read = async () => {
    while (seen.at(-1) !== count - 1 && (await next()));
  };
  const cut = async () => {
    while (!over.signal.aborted) {
      await logs.rotate(record);
      await delay(1);
    }
  };
  await next();
  const reading = read().finally(() => over.abort());
  const cutting = cut();
  try {
    // In pieces that end within lines, as a worker writes when much is printed.
    for (let from = first; from < all.length; from += 4_096) {
      appendFileSync(store.log(record), all.subarray(from, from + 4_096));
      // No more than a cut keeps may be unread.
      const written = Math.floor((from + 4_096) / first);
      await vi.waitFor(() => expect(written - (seen.at(-1) ?? 0)).toBeLessThan(500), { timeout: 10_000, interval: 1 });
    }
    await reading;
  } finally {
    over.abort();
    await Promise.allSettled([reading, cutting]);
  }
  const missing = Array.from({ length: count }, (_, number) => number).filter((number) => !seen.includes(number));
  expect({ missing, doubled: seen.length - new Set(seen).size }).toEqual({ missing: [], doubled: 0 });
  expect((await stat(store.log(record))).size).toBeLessThan(all.length / 2);
});
