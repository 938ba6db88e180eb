import { mkdir, readdir } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import type { BuildCopy } from './build-copy.js';
import { killProcess, processes, type ProcessView } from './processes.js';
import type { Builds, CrashSite, WorkerView } from './site.js';

/** Of a worker from the pool its function stands in its folder's path only. */
const TAG = /^faas_replica=([^/]+)\/(?:[a-z2-7]{16}|\.pool)-([0-9a-f]+)$/;
const POOL = '.pool';
/** What is built, and what builds. */
const KEPT: ReadonlySet<string> = new Set(['.layers', '.builder']);
const POOL_SIZE = 2;

/** Workers as processes of this machine, known by the tag in their command lines and by their runtime folder. */
export class ProcessSite implements CrashSite {
  readonly engine = 'process';
  readonly env: Readonly<Record<string, string>>;
  readonly pool = {
    size: POOL_SIZE,
    waiting: async () => (await this.all()).filter(({ functionId }) => functionId === ''),
  };

  readonly builds: Builds = {
    indexHost: '127.0.0.1',
    kill: async () => {
      for (const { pid } of this.ours().filter(({ command }) => command.includes('faas_builder'))) killProcess(pid);
    },
  };

  private constructor(
    private readonly runtimeDir: string,
    build: BuildCopy,
  ) {
    this.env = {
      DEPLOYMENT_ENV: 'process',
      AUTH_DISABLED: 'true',
      PROCESS_RUNTIME_DIR: runtimeDir,
      WORKER_DIR: build.workerDir,
      BUILDER_UV: resolve('.cache/builder/bin/uv'),
      WARM_POOL_SIZE: String(POOL_SIZE),
      WORKER_PYTHON: resolve(process.env['WORKER_PYTHON'] ?? '.cache/worker-venv/bin/python'),
    };
  }

  static async open(folder: string, build: BuildCopy): Promise<ProcessSite> {
    const runtimeDir = join(folder, 'r');
    await mkdir(runtimeDir);
    return new ProcessSite(runtimeDir, build);
  }

  async workers(): Promise<WorkerView[]> {
    return (await this.all()).filter(({ functionId }) => functionId !== '');
  }

  private async all(): Promise<WorkerView[]> {
    const owner = await this.owner();
    const tagged = processes().flatMap((view) => {
      const match = tagOf(view);
      return match?.[1] === owner ? [{ ...view, functionId: this.functionOf(view), replica: match?.[2] ?? '' }] : [];
    });
    const pids = new Set(tagged.map(({ pid }) => pid));
    return tagged
      .filter(({ parent }) => !pids.has(parent))
      .map(({ pid, functionId, replica }) => ({
        functionId,
        replica,
        pid,
        runners: tagged.filter(({ parent }) => parent === pid).map((one) => one.pid),
      }));
  }

  async leaks(functionIds: ReadonlySet<string>): Promise<string[]> {
    const workers = new Map((await this.all()).map((worker) => [worker.replica, worker]));
    return [
      ...this.orphanedProcesses(new Set([...workers.values()].map(({ pid }) => pid))),
      ...(await this.orphanedFiles(functionIds, new Set(workers.keys()))),
    ];
  }

  async close(): Promise<void> {
    for (let left = this.ours(); left.length > 0; left = this.ours()) {
      for (const { pid } of left) killProcess(pid);
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  private orphanedProcesses(workers: ReadonlySet<number>): string[] {
    const parents = new Map(processes().map(({ pid, parent }) => [pid, parent]));
    const belongs = (pid: number | undefined): boolean =>
      pid !== undefined && (workers.has(pid) || belongs(parents.get(pid)));
    return this.ours()
      .filter(({ pid }) => !belongs(pid))
      .map(({ pid, command }) => `process ${pid} belongs to no worker: ${command.join(' ')}`);
  }

  private async orphanedFiles(functionIds: ReadonlySet<string>, replicas: ReadonlySet<string>): Promise<string[]> {
    const owner = await this.owner();
    if (owner === undefined) return [];
    const dir = join(this.runtimeDir, owner);
    const leaks: string[] = [];
    for (const name of await readdir(dir).catch(() => [])) {
      if (KEPT.has(name)) continue;
      if (!functionIds.has(name) && name !== POOL) {
        leaks.push(`folder ${name} belongs to no function`);
        continue;
      }
      // It may go while it is being looked at.
      for (const entry of await readdir(join(dir, name), { withFileTypes: true }).catch(() => [])) {
        if (entry.isDirectory() && !replicas.has(entry.name)) leaks.push(`folder ${name}/${entry.name} has no worker`);
      }
    }
    return leaks;
  }

  /** Its working folder is inside its replica's, which is inside its function's. */
  private functionOf({ cwd }: ProcessView): string {
    const [, folder = ''] = relative(this.runtimeDir, cwd ?? this.runtimeDir).split(sep);
    return folder === POOL ? '' : folder;
  }

  /** Whatever bears this site's tag or lives in its folder. */
  private ours(): ProcessView[] {
    return processes().filter(
      (view) => view.cwd?.startsWith(`${this.runtimeDir}/`) === true || this.env['PROCESS_RUNTIME_DIR'] === view.cwd,
    );
  }

  /** The managers name their folder after their database's installation. */
  private async owner(): Promise<string | undefined> {
    return (await readdir(this.runtimeDir)).find((name) => !name.startsWith('.'));
  }
}

function tagOf({ command }: ProcessView): RegExpExecArray | undefined {
  for (const word of command) {
    const match = TAG.exec(word);
    if (match !== null) return match;
  }
  return undefined;
}
