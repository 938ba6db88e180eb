import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ContainerLog } from './log.js';
import type { MemoryLimits } from './memory-limits.js';
import { familyOf, killFamily, signal } from './process-family.js';

/** How the one known image is run here: the worker package, by a Python that has what it needs. */
export interface WorkerImage {
  /** As manifests name it; `docker.io/library/` before it means the same. */
  readonly name: string;
  readonly python: string;
  /** The folder that holds the package `faas_worker`. */
  readonly workerDir: string;
}

export interface RunOptions {
  readonly image: WorkerImage;
  readonly root: string;
  readonly address: string;
  readonly port: number;
  readonly env: Readonly<Record<string, string>>;
  readonly memoryLimit: number | undefined;
  /** A module of the image and what it is told; unset: the worker. */
  readonly command?: readonly string[] | undefined;
  /** Found in the process list when all else is lost. */
  readonly tag: string;
}

export interface Exit {
  readonly exitCode: number;
  readonly reason: 'Completed' | 'Error' | 'OOMKilled';
  readonly startedAt: Date;
  readonly finishedAt: Date;
}

const LAST_WORDS_MS = 500;
const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  SIGKILL: 9,
  SIGTERM: 15,
  SIGINT: 2,
  SIGSEGV: 11,
  SIGABRT: 6,
};

/** One run of a container: a real worker process with all that it starts. */
export class ContainerRun {
  readonly id = randomBytes(32).toString('hex');
  readonly log = new ContainerLog();
  readonly startedAt = new Date();
  readonly exited: Promise<Exit>;
  private readonly child: ChildProcess;
  private outOfMemory = false;

  constructor(options: RunOptions, memory: MemoryLimits) {
    const { image, root, address, port, env, memoryLimit, command = ['faas_worker'], tag } = options;
    // Python ignores an -X it doesn't know; it is there to be found in the process list.
    this.child = spawn(image.python, ['-X', `kube_pod=${tag}`, '-m', ...command], {
      cwd: root,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: '/usr/local/bin:/usr/bin:/bin',
        LANG: 'C.UTF-8',
        PYTHONPATH: image.workerDir,
        PYTHONUNBUFFERED: '1',
        PYTHONDONTWRITEBYTECODE: '1',
        HOME: join(root, 'tmp'),
        TMPDIR: join(root, 'tmp'),
        FAAS_APP_DIR: join(root, 'app'),
        FAAS_SECRETS_DIR: join(root, 'run', 'secrets'),
        FAAS_LAYERS_DIR: join(root, 'layers'),
        FAAS_UV: resolve('.cache/builder/bin/uv'),
        ...env,
        FAAS_HOST: address,
        FAAS_PORT: String(port),
      },
    });
    for (const stream of ['stdout', 'stderr'] as const) {
      this.child[stream]?.setEncoding('utf8').on('data', (chunk: string) => this.log.write(stream, chunk));
    }
    const { pid = 0 } = this.child;
    if (memoryLimit !== undefined && pid > 0) memory.watch(pid, memoryLimit, () => this.runOutOfMemory());
    this.exited = this.waitForEnd().finally(() => memory.forget(pid));
  }

  terminate(): void {
    if (this.child.pid !== undefined && this.isRunning) signal(this.child.pid, 'SIGTERM');
  }

  async kill(): Promise<void> {
    if (this.child.pid !== undefined && this.isRunning) await killFamily(this.child.pid);
    await this.exited;
  }

  private get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  private async waitForEnd(): Promise<Exit> {
    const said = new Promise<void>((resolve) => this.child.once('close', () => resolve()));
    const [code, name] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
      this.child.once('exit', (...how) => resolve(how));
      this.child.once('error', (error) => {
        this.log.write('stderr', `${error.message}\n`);
        resolve([128, null]);
      });
    });
    // A container ends with its first process, and so does all that is left of it.
    const { pid } = this.child;
    if (pid !== undefined) for (const left of familyOf(pid)) signal(left, 'SIGKILL');
    await Promise.race([said, delay(LAST_WORDS_MS, undefined, { ref: false })]);
    this.log.end();
    const exitCode = code ?? 128 + (SIGNAL_NUMBERS[name ?? ''] ?? 9);
    const reason = this.outOfMemory ? 'OOMKilled' : exitCode === 0 ? 'Completed' : 'Error';
    return { exitCode, reason, startedAt: this.startedAt, finishedAt: new Date() };
  }

  private runOutOfMemory(): void {
    this.outOfMemory = true;
    void this.kill();
  }
}
