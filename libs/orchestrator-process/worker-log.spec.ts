import { appendFile, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  const count = 20_000;
  const time = (number: number) => `2026-01-02T03:04:05.${String(number).padStart(9, '0')}Z`;
  const write = (from: number, to: number) =>
    appendFile(
      store.log(record),
      Array.from(
        { length: to - from },
        (_, at) => `${time(from + at)} stdout ${from + at} ${'x'.repeat(1_000)}\n`,
      ).join(''),
    );
  await write(0, 1);
  const lines = logs.of(record).lines({ tail: 1, follow: true, signal: AbortSignal.timeout(20_000) });
  const reader = lines[Symbol.asyncIterator]();
  await reader.next();
  const written = new AbortController();
  const cutting = (async () => {
    while (!written.signal.aborted) await logs.rotate(record);
  })();
  const seen: number[] = [0];
  const reading = (async () => {
    while (seen.at(-1) !== count - 1) {
      const { value, done } = await reader.next();
      if (done === true) return;
      seen.push(Number(value.text.split(' ')[0]));
    }
  })();
  for (let from = 1; from < count; from += 7) {
    await write(from, Math.min(count, from + 7));
    // No more than a cut keeps may be unread.
    await vi.waitFor(() => expect(from - (seen.at(-1) ?? 0)).toBeLessThan(500), { timeout: 10_000, interval: 1 });
  }
  written.abort();
  await Promise.all([cutting, reading]);
  expect(seen).toEqual(Array.from({ length: count }, (_, number) => number));
  await reader.return?.();
});
