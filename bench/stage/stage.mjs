import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Load } from '../load/load.mjs';
import { Child, freePort } from './child.mjs';
import { startProxy } from '../reference/proxy.mjs';
import { DockerEngine } from './docker-engine.mjs';
import { untilHealthy } from './health.mjs';
import { Manager } from './manager.mjs';
import { ProcessEngine } from './process-engine.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const reference = join(root, 'bench', 'reference');

/** What figures are measured on; each part is started when it is first asked for, and ended at the end. */
export class Stage {
  root = root;
  /** Why pairs were left out of the figures. */
  discarded = [];
  #manager;
  #load;

  constructor(undo, folder, engine, options) {
    this.undo = undo;
    this.folder = folder;
    this.engine = engine;
    this.options = options;
  }

  static async open(undo, options) {
    // Short, for the sockets in it.
    const folder = await mkdtemp(join(tmpdir(), 'fb-'));
    await undo.add(() => rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }));
    // Functions run as other users when the manager is root's.
    await chmod(folder, 0o755);
    const engine = await chooseEngine(options.engine, folder);
    await undo.add(() => engine.clear());
    return new Stage(undo, folder, engine, options);
  }

  /** The worker's Python. */
  get python() {
    return workerPython();
  }

  async manager() {
    this.#manager ??= Manager.start(this);
    return this.#manager;
  }

  load() {
    if (this.#load === undefined) {
      const load = new Load();
      this.#load = load;
      void this.undo.add(() => load.end());
    }
    return this.#load;
  }

  async proxy({ origin, socketPath }) {
    const child = startProxy(origin, socketPath);
    const end = () => child.end();
    await this.undo.add(end);
    const { port } = await child.ask('The proxy');
    const target = { origin: `http://127.0.0.1:${port}`, path: '/' };
    return { target, pid: child.pid, end: () => this.undo.now(end) };
  }

  /** The worker by hand, around one handler of the reference's file. */
  async worker(handler) {
    const { origin, end } = await this.#python(['-m', 'faas_worker'], (port) => ({
      PYTHONPATH: join(root, 'apps', 'worker'),
      FAAS_HOST: '127.0.0.1',
      FAAS_PORT: String(port),
      FAAS_APP_DIR: reference,
      HANDLER_FUNCTION: `handlers.${handler}`,
    }));
    return { target: { origin, path: '/' }, end };
  }

  async plainRoutes() {
    const { origin, end } = await this.#python(
      (port) => [join(reference, 'plain_fastapi.py'), String(port)],
      () => ({}),
    );
    return { target: (path) => ({ origin, path }), end };
  }

  async #python(args, environment) {
    const port = await freePort();
    const child = Child.run(this.python, typeof args === 'function' ? args(port) : args, {
      cwd: this.folder,
      env: { PATH: process.env.PATH, PYTHONDONTWRITEBYTECODE: '1', ...environment(port) },
    });
    const end = () => child.end();
    await this.undo.add(end);
    const origin = `http://127.0.0.1:${port}`;
    await Promise.race([untilHealthy({ origin }), child.failure('A Python server')]);
    return { origin, end: () => this.undo.now(end) };
  }
}

/** Docker where it can be used, unless one is asked for. */
async function chooseEngine(asked, folder) {
  if (asked === 'process') return new ProcessEngine(root, folder, workerPython());
  const docker = new DockerEngine();
  const missing = await docker.missing();
  if (missing === undefined) return docker;
  if (asked === 'docker') throw new Error(`Docker can't be used: ${missing}.`);
  console.log(`• Functions run as processes: ${missing}.`);
  return new ProcessEngine(root, folder, workerPython());
}

function workerPython() {
  return resolve(root, process.env.WORKER_PYTHON || '.cache/worker-venv/bin/python');
}
