import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReplicaStore } from '#libs/orchestrator-process/replica-store.js';
import { genericProcesses, processHarness, WARM } from '../../contract/support/process-harness.js';
import type { PoolSite } from './pool-site.js';

/** A worker's folder keeps its name when it is moved to its function. */
export function processPool(): PoolSite {
  const harness = processHarness(WARM);
  const { runtimeDir } = harness;
  const suffixOf = (replica: string) => replica.slice(replica.lastIndexOf('-') + 1);
  return {
    harness,
    waiting: async (owner) => (await genericProcesses(runtimeDir, owner)).map(({ replica }) => suffixOf(replica)),
    remains: async (owner) => {
      const { ownerDir, ownerKey } = new ReplicaStore(runtimeDir, owner);
      const folders: string[] = [];
      for (const name of await readdir(ownerDir)) {
        folders.push(...(await readdir(join(ownerDir, name))).map((entry) => `folder ${name}/${entry}`));
      }
      // Each worker's processes have its folder in their command lines' tag.
      const running = (await workersOf(ownerKey)).length;
      return [...folders, ...(running > folders.length ? [`${running} workers run`] : [])];
    },
    memberOf: suffixOf,
    killWaiting: async (owner) => {
      for (const { process: worker } of await genericProcesses(runtimeDir, owner)) {
        if (worker !== undefined) process.kill(worker.pid, 'SIGKILL');
      }
    },
    victim: { engine: 'process', config: harness.config, pool: WARM },
  };
}

/** Supervisors: they lead the session that all processes of a worker start in. */
async function workersOf(ownerKey: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const tagged = await Promise.all(
    pids.map(async (pid) => {
      const command = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
      return command.includes(`faas_replica=${ownerKey}/`) && (await leadsItsGroup(pid)) ? [pid] : [];
    }),
  );
  const leaders = new Set(tagged.flat());
  const parents = await Promise.all([...leaders].map((pid) => statOf(pid, 1)));
  return [...leaders].filter((_, index) => !leaders.has(parents[index] ?? ''));
}

async function leadsItsGroup(pid: string): Promise<boolean> {
  return (await statOf(pid, 2)) === pid;
}

/** A field after the name: state, parent, group. */
async function statOf(pid: string, field: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[field];
}
