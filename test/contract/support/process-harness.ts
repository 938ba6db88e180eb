import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pino } from 'pino';
import { expect, vi } from 'vitest';
import { NO_POOL, type PoolConfig, type ProcessConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { ProcessOrchestrator } from '#libs/orchestrator-process/process.orchestrator.js';
import { POOL, ReplicaStore, type ReplicaRecord } from '#libs/orchestrator-process/replica-store.js';
import { kindOf } from '#libs/orchestrator/generic-worker.js';
import { callOverHttp, type ContractHarness } from '#libs/orchestrator/testing/contract.js';

const FILL_TIMEOUT_MS = 60_000;

export const WARM: PoolConfig = { size: 2, memoryMiB: 192, cpuMillis: 1_000, pids: 128 };

export interface ProcessHarness extends ContractHarness {
  readonly runtimeDir: string;
  readonly config: ProcessConfig;
}

export function processHarness(
  pool: PoolConfig = NO_POOL,
  runtimeDir = mkdtempSync(join(tmpdir(), 'faas-')),
): ProcessHarness {
  const config = {
    python: resolve(process.env['WORKER_PYTHON'] ?? '.cache/worker-venv/bin/python'),
    workerDir: resolve('apps/worker'),
    runtimeDir,
    layers: loadConfig({}).layers,
  };
  const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
  return {
    runtimeDir,
    config,
    open: async (owner) => {
      const orchestrator = new ProcessOrchestrator(config, owner, TEST_TOKENS, logger, pool);
      if (pool.size > 0) await filled(orchestrator, runtimeDir, owner, pool.size);
      return orchestrator;
    },
    shut: (orchestrator) => orchestrator.close(),
    call: callOverHttp,
    kill: async (_, replica) => {
      const { process: found } = await recordOf(runtimeDir, replica);
      if (found !== undefined) process.kill(found.pid, 'SIGKILL');
    },
    needsLease: true,
    close: () => rmSync(runtimeDir, { recursive: true, force: true }),
  };
}

async function filled(
  orchestrator: ProcessOrchestrator,
  runtimeDir: string,
  owner: string,
  size: number,
): Promise<void> {
  await orchestrator.ping(AbortSignal.timeout(FILL_TIMEOUT_MS));
  await vi.waitFor(
    async () => expect((await genericProcesses(runtimeDir, owner, process.pid)).length).toBeGreaterThanOrEqual(size),
    { timeout: FILL_TIMEOUT_MS, interval: 50 },
  );
}

/** An owner's workers that wait for a function; of one manager only, when its pid is given. */
export async function genericProcesses(runtimeDir: string, owner: string, manager?: number): Promise<ReplicaRecord[]> {
  const store = new ReplicaStore(runtimeDir, owner);
  const records = await store.load(POOL);
  const ours = records.filter((record) => manager === undefined || record.manager?.pid === manager);
  const kinds = await Promise.all(ours.map((one) => kindOf(store.address(one), false, 500)));
  return ours.filter((_, index) => kinds[index] === 'generic');
}

export async function recordOf(runtimeDir: string, replica: string): Promise<ReplicaRecord> {
  const paths = await readdir(runtimeDir, { recursive: true });
  const path = paths.find((name) => name.endsWith(join(...replica.split('-'), 'record.json')));
  if (path === undefined) throw new Error(`There is no replica ${replica}.`);
  return JSON.parse(await readFile(join(runtimeDir, path), 'utf8')) as ReplicaRecord;
}
