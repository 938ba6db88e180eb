import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pino } from 'pino';
import type { ReplicaRecord } from '#libs/orchestrator-process/replica-files.js';
import { ProcessOrchestrator } from '#libs/orchestrator-process/process.orchestrator.js';
import { callOverHttp, describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';

describeOrchestratorContract('process', () => {
  const runtimeDir = mkdtempSync(join(tmpdir(), 'faas-'));
  const config = {
    python: resolve(process.env['WORKER_PYTHON'] ?? '.cache/worker-venv/bin/python'),
    workerDir: resolve('apps/worker'),
    runtimeDir,
  };
  const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
  return {
    open: (owner) => new ProcessOrchestrator(config, owner, logger),
    shut: (orchestrator) => (orchestrator as ProcessOrchestrator).close(),
    call: callOverHttp,
    kill: async (_, replica) => {
      const { process: found } = await recordOf(runtimeDir, replica);
      if (found !== undefined) process.kill(found.pid, 'SIGKILL');
    },
    close: () => rmSync(runtimeDir, { recursive: true, force: true }),
  };
});

async function recordOf(runtimeDir: string, replica: string): Promise<ReplicaRecord> {
  const paths = await readdir(runtimeDir, { recursive: true });
  const path = paths.find((name) => name.endsWith(join(...replica.split('-'), 'record.json')));
  if (path === undefined) throw new Error(`There is no replica ${replica}.`);
  return JSON.parse(await readFile(join(runtimeDir, path), 'utf8')) as ReplicaRecord;
}
