import { chmod, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TOKEN_HEADER, WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import { Child, freePort } from './child.mjs';
import { connectDatabase, queryDatabase } from './database.mjs';
import { untilHealthy } from './health.mjs';
import { liveBytes } from './inspector.mjs';
import { memoryBytes } from './process-use.mjs';

/** The rest of the environment is left out, so that nobody's configuration changes what is measured. */
const PASSED_ON = ['PATH', 'HOME', 'LANG', 'TMPDIR', 'DOCKER_HOST', 'DOCKER_CERT_PATH', 'DOCKER_TLS_VERIFY'];
const PATIENCE_MS = 20_000;
const BOOT_MS = 120_000;

/** A manager as `npm start` runs it, with a database of its own, on loopback. */
export class Manager {
  #stage;
  #storage;
  #root;
  #environment;
  #flags;
  #port;
  #inspectorPort;
  #child;

  constructor(stage, storage, root, environment) {
    this.#stage = stage;
    this.#storage = storage;
    this.#root = root;
    this.#environment = { WARM_POOL_SIZE: '0', ...environment };
    this.#flags = ['--enable-source-maps'];
    if (stage.options.profile) {
      this.#flags.push('--cpu-prof', `--cpu-prof-dir=${join(stage.root, '.cache', 'bench-profiles')}`);
    }
  }

  /**
   * `environment`: what differs from a manager without a warm pool; `inspect`: its memory is to be measured; `root`: the
   * checkout whose program it runs.
   */
  static async start(stage, { environment = {}, inspect = false, root = stage.root } = {}) {
    const storage = await mkdtemp(join(stage.folder, 'm'));
    await chmod(storage, 0o755);
    const manager = new Manager(stage, storage, root, environment);
    manager.#port = await freePort();
    if (inspect) {
      manager.#inspectorPort = await freePort();
      manager.#flags.push(`--inspect=127.0.0.1:${manager.#inspectorPort}`);
    }
    await stage.undo.add(() => manager.#leave());
    await manager.boot();
    const [{ id }] = await manager.query('SELECT id FROM installation');
    manager.owner = id;
    return manager;
  }

  get origin() {
    return `http://127.0.0.1:${this.#port}`;
  }

  get pid() {
    return this.#child.pid;
  }

  /** Starts its process anew; answers how long it took until it was ready. */
  async boot() {
    await this.stop();
    const { engine, undo } = this.#stage;
    if (undo.begun) throw new Error('It is being ended.');
    const began = performance.now();
    const passed = PASSED_ON.filter((name) => process.env[name] !== undefined);
    const main = join(this.#root, 'dist', 'apps', 'manager', 'src', 'main.js');
    this.#child = Child.run(process.execPath, [...this.#flags, main], {
      cwd: this.#root,
      env: {
        ...Object.fromEntries(passed.map((name) => [name, process.env[name]])),
        LISTEN_ADDR: `127.0.0.1:${this.#port}`,
        FUNCTION_STORAGE_DIR: this.#storage,
        ...engine.environment,
        ...this.#environment,
      },
    });
    const ready = untilHealthy({ origin: this.origin }, { path: '/readyz', withinMs: BOOT_MS });
    await Promise.race([ready, this.#child.failure('The manager')]);
    return performance.now() - began;
  }

  /** Ends its process and its database's; their data stays for another boot. */
  async stop() {
    await this.#child?.end(PATIENCE_MS);
    this.#child = undefined;
  }

  /** A statement in its database. */
  query(sql, parameters) {
    return queryDatabase(this.#storage, sql, parameters);
  }

  /** Connections to its database. */
  connections(count) {
    return Promise.all(Array.from({ length: count }, () => connectDatabase(this.#storage)));
  }

  /** What its process keeps in memory: all of it, and what its program still holds on to. In bytes. */
  async memory() {
    const live = await liveBytes(this.#inspectorPort);
    return { live, all: await memoryBytes(this.pid) };
  }

  /** Where calls of a function go. */
  target(id) {
    return { origin: this.origin, path: `/functions/${id}/execute` };
  }

  /** The worker of a function, by the way that the manager takes and with what it shows there. */
  async workerTarget(id) {
    const [{ key }] = await this.query('SELECT key FROM worker_key');
    const [{ endpoints }] = await this.query('SELECT endpoints FROM functions WHERE id = $1', [id]);
    const token = new WorkerTokens(key).tokenFor(endpoints[0].credential);
    return { ...(await this.#stage.engine.workerTarget(id)), headers: [TOKEN_HEADER, token] };
  }

  /** Answers the id once the function is ready. `fields`: further fields of the form. */
  async upload({ code, handler }, fields = {}) {
    const form = new FormData();
    form.set('python_file', new Blob([code]), 'handler.py');
    form.set('function_name', handler);
    for (const [name, value] of Object.entries(fields)) form.set(name, String(value));
    const { status, text } = await this.#ask('POST', '/functions', form);
    if (status !== 201) throw new Error(`An upload was answered ${status}: ${text}`);
    return JSON.parse(text).id;
  }

  call(id, payload) {
    return this.#ask('POST', `/functions/${id}/execute`, JSON.stringify({ payload }));
  }

  async detail(id) {
    const { status, text } = await this.#ask('GET', `/functions/${id}`);
    if (status !== 200) throw new Error(`A function was answered ${status}: ${text}`);
    return JSON.parse(text);
  }

  async remove(id) {
    const { status, text } = await this.#ask('DELETE', `/functions/${id}`);
    if (status !== 204) throw new Error(`A removal was answered ${status}: ${text}`);
  }

  async #ask(method, path, body) {
    const answer = await fetch(`${this.origin}${path}`, { method, body });
    return { status: answer.status, text: await answer.text() };
  }

  async #leave() {
    const profiled = this.#stage.options.profile && this.#child !== undefined;
    await this.stop();
    if (this.owner !== undefined) await this.#stage.engine.clearOf(this.owner);
    await removeDatabase(this.#storage);
    if (profiled) console.log(`• The manager's CPU profile is in .cache/bench-profiles`);
  }
}

/** A manager that had to be killed leaves its PostgreSQL running; the folder may be a link to where it could be. */
async function removeDatabase(storage) {
  const home = await realpath(join(storage, 'postgres')).catch(() => storage);
  const lock = await readFile(join(home, 'cluster', 'data', 'postmaster.pid'), 'utf8').catch(() => '');
  const pid = Number.parseInt(lock, 10);
  try {
    if (pid > 0) process.kill(pid, 'SIGQUIT');
  } catch {
    // It has ended.
  }
  await rm(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
}
