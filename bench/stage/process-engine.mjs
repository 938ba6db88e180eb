import { existsSync } from 'node:fs';
import { glob, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Child } from './child.mjs';
import { untilHealthy } from './health.mjs';

/** Functions as processes of this machine, in a folder that only this run uses. */
export class ProcessEngine {
  name = 'process';
  #root;
  #folder;
  #python;

  constructor(root, folder, python) {
    this.#root = root;
    this.#folder = join(folder, 'p');
    this.#python = python;
  }

  /** What the manager is told. */
  get environment() {
    return {
      DEPLOYMENT_ENV: 'process',
      PROCESS_RUNTIME_DIR: this.#folder,
      WORKER_PYTHON: this.#python,
      WARM_POOL_SIZE: process.env.WARM_POOL_SIZE || '0',
    };
  }

  async describe() {
    return 'process';
  }

  /** The worker of a function: its socket is where the process provider puts it. */
  async workerTarget(id) {
    for await (const socket of glob(`*/${id}/*/w/s`, { cwd: this.#folder })) {
      return { origin: 'http://worker', path: '/', socketPath: join(this.#folder, socket) };
    }
    throw new Error(`Function ${id} has no worker.`);
  }

  /** The worker without a manager: a folder with the code, the program, and asked until it is healthy. */
  async startBare({ code, handler }) {
    await mkdir(this.#folder, { recursive: true });
    const folder = await mkdtemp(join(this.#folder, 'bare-'));
    await mkdir(join(folder, 'function'));
    await writeFile(join(folder, 'function', 'handler.py'), code);
    const socketPath = join(folder, 's');
    const worker = Child.run(this.#python, ['-m', 'faas_worker'], {
      cwd: folder,
      env: {
        PATH: process.env.PATH,
        PYTHONPATH: join(this.#root, 'apps', 'worker'),
        PYTHONDONTWRITEBYTECODE: '1',
        FAAS_APP_DIR: folder,
        FAAS_SOCKET: socketPath,
        HANDLER_FUNCTION: `function.handler.${handler}`,
      },
    });
    await Promise.race([untilHealthy({ origin: 'http://worker', socketPath }), worker.failure('A bare worker')]);
    return {
      end: async () => {
        await worker.end();
        await rm(folder, { recursive: true, force: true });
      },
    };
  }

  /** Kills every worker whose socket is in the folder; the folder goes with the stage's. */
  async clear() {
    if (!existsSync('/proc/self/environ')) return;
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
      if (!environment.includes(`FAAS_SOCKET=${this.#folder}/`)) continue;
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It has ended meanwhile.
      }
    }
  }
}
