import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { glob, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Child, freePort } from './child.mjs';
import { indexEnvironment, uvEnvironment } from './package-index.mjs';
import { isGeneric, untilGeneric, untilHealthy } from './health.mjs';
import { memoryBytes, processesWhere } from './process-use.mjs';

/** Where the provider puts workers without a function. */
const POOL = '.pool';
const run = promisify(execFile);

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
      // It listens on loopback, and is gone after the run.
      AUTH_DISABLED: 'true',
      PROCESS_RUNTIME_DIR: this.#folder,
      WORKER_PYTHON: this.#python,
    };
  }

  async describe() {
    return 'process';
  }

  /** What a manager is told of where packages come from, and what uv is told by hand. */
  indexEnvironment() {
    return indexEnvironment();
  }

  /** A process is no slower to start when it is needed. */
  async untilBuilderWaits() {}

  /** How many milliseconds uv takes for a package and what it needs, with nothing in its cache. */
  async installByHand(requirement) {
    const folder = await this.#folderOf({});
    const uv = process.env.BUILDER_UV || join(this.#root, '.cache', 'builder', 'bin', 'uv');
    const places = ['--cache-dir', join(folder, 'cache'), '--target', join(folder, 'packages')];
    const began = performance.now();
    const env = { PATH: process.env.PATH, HOME: folder, UV_NO_CONFIG: '1', UV_SYSTEM_CERTS: '1', ...uvEnvironment() };
    await run(uv, ['pip', 'install', ...places, '--python', this.#python, requirement], { env });
    const took = Math.round((performance.now() - began) * 10) / 10;
    await rm(folder, { recursive: true, force: true });
    return took;
  }

  /** The worker of a function: its socket is where the process provider puts it. */
  async workerTarget(id) {
    const [socket] = await this.#sockets(id);
    if (socket === undefined) throw new Error(`Function ${id} has no worker.`);
    return targetOf(socket);
  }

  /** What the worker of a function keeps in memory, in bytes, with its part of what its processes share. */
  workerMemory(id) {
    const socket = new RegExp(`FAAS_SOCKET=${this.#folder}/[^/]+/${id}/`);
    return memoryWhere((environment) => socket.test(environment));
  }

  /** Workers that wait for a function, and whether all of them are up; everything else that runs. */
  async census() {
    const [generic, all] = await Promise.all([this.#sockets(POOL), this.#sockets('*')]);
    const up = await Promise.all(generic.map((socket) => isGeneric(targetOf(socket))));
    return { generic: generic.length, areUp: up.every(Boolean), others: all.length };
  }

  /** Everything of one installation that is neither in the pool nor removed. */
  async leftovers(owner) {
    const folder = join(this.#folder, folderNameOf(owner));
    return (await readdir(folder)).filter((name) => !name.startsWith('.')).length;
  }

  /** The worker without a manager: a folder with the code, the program, and asked until it is healthy. */
  async startBare({ code, handler }) {
    const folder = await this.#folderOf({ 'function/handler.py': code });
    const socketPath = join(folder, 's');
    const environment = {
      PYTHONPATH: join(this.#root, 'apps', 'worker'),
      FAAS_APP_DIR: folder,
      FAAS_SOCKET: socketPath,
      HANDLER_FUNCTION: `function.handler.${handler}`,
    };
    return this.#run(folder, ['-m', 'faas_worker'], environment, { origin: 'http://worker', socketPath });
  }

  /** The worker without a manager, up and waiting for a function: told so by these variables. */
  async startGeneric(environment) {
    const folder = await this.#folderOf({});
    const socketPath = join(folder, 's');
    const all = {
      PYTHONPATH: join(this.#root, 'apps', 'worker'),
      FAAS_APP_DIR: folder,
      FAAS_SOCKET: socketPath,
      ...environment,
    };
    return this.#run(folder, ['-m', 'faas_worker'], all, { origin: 'http://worker', socketPath }, untilGeneric);
  }

  /** Plain routes around the same handlers. */
  async startPlain(files) {
    const folder = await this.#folderOf(files);
    const port = await freePort();
    const args = [join(folder, 'plain_fastapi.py'), String(port), '127.0.0.1'];
    return this.#run(folder, args, {}, { origin: `http://127.0.0.1:${port}` });
  }

  /** Kills every process of one installation and removes its files; its manager has ended. */
  async clearOf(owner) {
    const folder = join(this.#folder, folderNameOf(owner));
    await this.#kill(`FAAS_SOCKET=${folder}/`);
    await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  /** Kills every process whose folder is in ours; the folder goes with the run's. */
  clear() {
    return this.#kill(`=${this.#folder}/`);
  }

  async #kill(words) {
    for (const pid of await processesWhere((environment) => environment.includes(words))) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended meanwhile.
      }
    }
  }

  async #folderOf(files) {
    await mkdir(this.#folder, { recursive: true });
    const folder = await mkdtemp(join(this.#folder, 'bare-'));
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), content);
    }
    return folder;
  }

  async #run(folder, args, environment, target, untilUp = untilHealthy) {
    const child = Child.run(this.#python, args, {
      cwd: folder,
      env: { PATH: process.env.PATH, BENCH_FOLDER: `${folder}/`, PYTHONDONTWRITEBYTECODE: '1', ...environment },
    });
    await Promise.race([untilUp(target), child.failure('A bare worker')]);
    return {
      target: (path) => ({ ...target, path }),
      memory: () => memoryWhere((text) => text.includes(`BENCH_FOLDER=${folder}/`)),
      end: async () => {
        await child.end();
        await rm(folder, { recursive: true, force: true });
      },
    };
  }

  /** Of workers of one function, or of all; a pattern passes by what begins with a dot. */
  async #sockets(name) {
    const found = [];
    for await (const socket of glob(`*/${name}/*/w/s`, { cwd: this.#folder, exclude: isHiddenFrom(name) })) {
      found.push(join(this.#folder, socket));
    }
    return found;
  }
}

function targetOf(socketPath) {
  return { origin: 'http://worker', path: '/', socketPath };
}

/** As the process provider names the folder of an installation. */
function folderNameOf(owner) {
  return createHash('sha256').update(owner).digest('hex').slice(0, 10);
}

function isHiddenFrom(name) {
  return (path) => name !== POOL && path.includes(POOL);
}

async function memoryWhere(matches) {
  const sizes = await Promise.all((await processesWhere(matches)).map(memoryBytes));
  return sizes.reduce((sum, size) => sum + (size ?? 0), 0);
}
