import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Departures } from '#libs/orchestrator/departures.js';
import { HealthProber } from '#libs/orchestrator/health-probe.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { identityOf } from './process-table.js';
import { ReplicaStore } from './replica-store.js';
import { Replicas } from './replicas.js';
import { WorkerLogs } from './worker-log.js';

let folder: string;
let workers: ChildProcess[];
let store: ReplicaStore;
let logs: WorkerLogs;
let replicas: Replicas;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'faas-replicas-'));
  workers = [];
  store = new ReplicaStore(folder, 'owner');
  logs = new WorkerLogs(store);
  replicas = new Replicas(store, logs, new Departures(), TEST_TOKENS, () => {}, pino({ level: 'silent' }));
});
afterEach(async () => {
  vi.restoreAllMocks();
  replicas.close();
  for (const worker of workers) worker.kill('SIGKILL');
  await rm(folder, { recursive: true });
});

/** A replica that another process of this manager has started. */
async function startedElsewhere(name: string) {
  const worker = spawn('sleep', ['600'], { stdio: 'ignore' });
  workers.push(worker);
  const record = {
    replica: `abc-${name}`,
    functionId: 'abc',
    revision: 1,
    hash: 'h',
    timeoutMs: 1_000,
    startedAt: 0,
    uid: undefined,
    process: await identityOf(worker.pid!),
    drainUntil: undefined,
    credential: 'c',
  };
  await mkdir(store.dir(record), { recursive: true });
  await store.save(record);
  return { record, worker };
}

it('forgets a replica that another process of its manager has removed', async () => {
  const [gone, kept] = [await startedElsewhere('00000001'), await startedElsewhere('00000002')];
  const looked = vi.spyOn(logs, 'rotate');
  const forgotten = vi.spyOn(HealthProber.prototype, 'forget');
  const looks = (replica: string) => looked.mock.calls.filter(([place]) => place.replica === replica).length;
  await replicas.adoptAll();
  await vi.waitFor(() => expect(looks(gone.record.replica)).toBeGreaterThan(0), 5_000);

  gone.worker.kill('SIGKILL');
  await once(gone.worker, 'exit');
  await store.removeReplica(gone.record);
  await vi.waitFor(() => expect(forgotten).toHaveBeenCalledWith(gone.record.replica), 5_000);
  looked.mockClear();
  await vi.waitFor(() => expect(looks(kept.record.replica)).toBeGreaterThan(1), 5_000);
  expect(looks(gone.record.replica)).toBe(0);
  expect(forgotten).not.toHaveBeenCalledWith(kept.record.replica);
});

it('clears away at the next step what a killed manager had only begun to make', async () => {
  const { record } = await startedElsewhere('00000001');
  await store.claim('abc');
  expect(await replicas.settle('abc')).toMatchObject([{ replica: record.replica }]);
  expect(await readdir(store.functionDir('abc'))).toEqual(['00000001']);
});
