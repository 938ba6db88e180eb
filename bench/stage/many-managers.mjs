import { chmod, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { EmbeddedPostgres } from '#libs/database/embedded/embedded-postgres.js';
import pg from 'pg';
import { Child, freePort } from './child.mjs';
import { untilHealthy } from './health.mjs';
import { liveBytes } from './inspector.mjs';
import { cpuMicroseconds, familyMicroseconds, memoryBytes } from './process-use.mjs';

const BOOT_MS = 120_000;
const PATIENCE_MS = 20_000;
const SILENT = { info() {}, warn() {}, error: (...said) => console.error(...said), debug() {} };
/** What the server is started with besides; the rest is as an installation has it. */
const SETTINGS = { shared_preload_libraries: 'pg_stat_statements', 'pg_stat_statements.track': 'top' };

/** One PostgreSQL and one server that answers as all workers do, for any number of managers with an engine in memory. */
export class ManyManagers {
  #stage;
  #folder;
  #postgres;
  #url;
  #echo;
  #echoPort;
  #managers = [];

  static async prepare(stage) {
    const site = new ManyManagers();
    site.#stage = stage;
    site.#folder = await mkdtemp(join(stage.folder, 's'));
    await chmod(site.#folder, 0o755);
    site.#postgres = new EmbeddedPostgres({
      dataDir: join(site.#folder, 'postgres'),
      logger: SILENT,
      settings: SETTINGS,
    });
    await stage.undo.add(() => site.#postgres.stop());
    site.#url = await site.#postgres.ensureRunning(new AbortController().signal);
    site.#echo = Child.module(new URL('echo-worker.mjs', import.meta.url));
    await stage.undo.add(() => site.#echo.end());
    site.#echoPort = (await site.#echo.ask('The echo server')).port;
    await stage.undo.add(() => site.stop());
    return site;
  }

  get origins() {
    return this.#managers.map(({ origin }) => origin);
  }

  /** Starts so many managers; resolves when all are ready. */
  async start(count) {
    this.#managers = await Promise.all(Array.from({ length: count }, () => this.#startOne()));
    await Promise.all(
      this.#managers.map((manager) =>
        Promise.race([
          untilHealthy(manager, { path: '/readyz', withinMs: BOOT_MS }),
          manager.child.failure('A manager'),
        ]),
      ),
    );
  }

  async stop() {
    await Promise.all(this.#managers.map(({ child }) => child.end(PATIENCE_MS)));
    this.#managers = [];
  }

  async query(sql, parameters) {
    const client = await this.connect();
    try {
      return (await client.query(sql, parameters)).rows;
    } finally {
      await client.end();
    }
  }

  async connect() {
    const client = new pg.Client({ connectionString: this.#url });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  /** Processor time so far, in microseconds: of all managers, of PostgreSQL with its backends, of the echo server. */
  async cpu() {
    const managers = await Promise.all(this.#managers.map(({ child }) => cpuMicroseconds(child.pid)));
    return {
      managers: managers.reduce((sum, one) => sum + one, 0),
      postgres: await familyMicroseconds(await this.#postgres.pid()),
      echo: await cpuMicroseconds(this.#echo.pid),
    };
  }

  /** Of each manager, in bytes: what its process keeps, and what its program still holds. */
  memory() {
    return Promise.all(
      this.#managers.map(async ({ child, inspectorPort }) => {
        const all = await memoryBytes(child.pid);
        return { all, live: await liveBytes(inspectorPort) };
      }),
    );
  }

  /** The sum of a counter over all managers, by its name in /metrics. */
  async counter(name) {
    const texts = await Promise.all(this.origins.map(async (origin) => (await fetch(`${origin}/metrics`)).text()));
    const lines = texts.flatMap((text) => text.split('\n').filter((line) => line.startsWith(name)));
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  async #startOne() {
    const [port, inspectorPort] = [await freePort(), await freePort()];
    const flags = ['--enable-source-maps', `--inspect=127.0.0.1:${inspectorPort}`];
    if (this.#stage.options.profile) {
      flags.push('--cpu-prof', `--cpu-prof-dir=${join(this.#stage.root, '.cache', 'bench-profiles')}`);
    }
    const hook = new URL('memory-engine.mjs', import.meta.url).href;
    const main = join(this.#stage.root, 'dist', 'apps', 'manager', 'src', 'main.js');
    const child = Child.run(process.execPath, [...flags, '--import', hook, main], {
      cwd: this.#stage.root,
      env: {
        PATH: process.env.PATH,
        LISTEN_ADDR: `127.0.0.1:${port}`,
        DATABASE_URL: this.#url,
        DEPLOYMENT_ENV: 'process',
        AUTH_DISABLED: 'true',
        LOG_LEVEL: 'warn',
        FUNCTION_STORAGE_DIR: this.#folder,
        BENCH_ECHO_PORT: String(this.#echoPort),
        METRICS_MAX_FUNCTIONS: '0',
        // A step holds its place until it is written down, and this engine's own part takes no time.
        RECONCILE_CONCURRENCY: '64',
      },
    });
    return { child, origin: `http://127.0.0.1:${port}`, inspectorPort };
  }
}
