import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Load } from '../load/load.mjs';
import { Wrk } from '../load/wrk.mjs';
import { Child, freePort } from './child.mjs';
import { PLAIN_ROUTES } from '../reference/handlers.mjs';
import { buildGoProxy, startGoProxy, startProxy } from '../reference/proxy.mjs';
import { DockerEngine } from './docker-engine.mjs';
import { untilHealthy } from './health.mjs';
import { Manager } from './manager.mjs';
import { ProcessEngine } from './process-engine.mjs';
import { Undo } from './undo.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const reference = join(root, 'bench', 'reference');

/** What one figure is measured on; whatever it starts is ended after it. */
export class Stage {
  root = root;
  /** Why rounds were left out of the figures. */
  discarded = [];
  #loads = new Map();

  constructor(undo, folder, engine, options) {
    this.undo = undo;
    this.folder = folder;
    this.engine = engine;
    this.options = options;
  }

  /** In a folder of this run, and on an engine: what all figures have in common. */
  static async prepare(undo, options) {
    // Short, for the sockets in it.
    const folder = await mkdtemp(join(tmpdir(), 'fb-'));
    await undo.add(() => rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }));
    // Functions run as other users when the manager is root's.
    await chmod(folder, 0o755);
    const engine = await chooseEngine(options.engine, folder);
    await undo.add(() => engine.clear());
    return { folder, engine, root, python: workerPython() };
  }

  /** The same with functions elsewhere. */
  on(engine) {
    const stage = new Stage(this.undo, this.folder, engine, this.options);
    stage.discarded = this.discarded;
    return stage;
  }

  /** Has something measured; what it starts is ended after it. */
  async part(work) {
    const scope = new Undo();
    const end = () => scope.all();
    await this.undo.add(end);
    const stage = new Stage(scope, this.folder, this.engine, this.options);
    stage.discarded = this.discarded;
    try {
      return await work(stage);
    } finally {
      await this.undo.now(end);
    }
  }

  /** The Python that workers have where they are processes. */
  get python() {
    return workerPython();
  }

  /** How much of the usual counts and times is measured. */
  get share() {
    return this.options.share;
  }

  /** Without a warm pool where the options don't say: see {@link Manager.start}. */
  manager(options) {
    return Manager.start(this, options);
  }

  /** A process that sends calls; a figure that needs a second one names it. */
  load(name = 'first') {
    const load = this.#loads.get(name) ?? new Load();
    if (!this.#loads.has(name)) void this.undo.add(() => load.end());
    this.#loads.set(name, load);
    return load;
  }

  /** The load that takes least of the processors from what is measured: wrk where it is installed. */
  async leanLoad() {
    return (await Wrk.find()) ?? this.load();
  }

  /** Plain routes around the same handlers, or another program of that name, run where functions are. */
  async plainWorker(files = PLAIN_ROUTES) {
    const plain = await this.engine.startPlain(files);
    await this.undo.add(plain.end);
    return plain;
  }

  async proxy(target, connections) {
    const child = startProxy(target, connections);
    await this.undo.add(() => child.end());
    const { port } = await child.ask('The proxy');
    return { target: { origin: `http://127.0.0.1:${port}`, path: '/' }, pid: child.pid };
  }

  /** Undefined where there is no Go. */
  async goProxy(target, connections) {
    const program = await buildGoProxy(this.folder);
    if (program === undefined) return undefined;
    const port = await freePort();
    const child = startGoProxy(program, port, target, connections);
    await this.undo.add(() => child.end());
    const origin = `http://127.0.0.1:${port}`;
    await Promise.race([untilHealthy({ origin }), child.failure("Go's proxy")]);
    return { target: { origin, path: '/' }, pid: child.pid };
  }

  /** The worker by hand, of this checkout or of another one, around one handler of the reference's file. */
  async worker(handler, checkout = root) {
    const { origin, end } = await this.#startPython(['-m', 'faas_worker'], (port) => ({
      PYTHONPATH: join(resolve(checkout), 'apps', 'worker'),
      FAAS_HOST: '127.0.0.1',
      FAAS_PORT: String(port),
      FAAS_APP_DIR: reference,
      HANDLER_FUNCTION: `handlers.${handler}`,
    }));
    return { target: { origin, path: '/' }, end };
  }

  async plainRoutes() {
    const { origin, end } = await this.#startPython(
      (port) => [join(reference, 'plain_fastapi.py'), String(port), '127.0.0.1'],
      () => ({}),
    );
    return { target: (path) => ({ origin, path }), end };
  }

  async #startPython(args, environment) {
    const port = await freePort();
    const child = Child.run(workerPython(), typeof args === 'function' ? args(port) : args, {
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
