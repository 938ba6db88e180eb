import { mkdir, readFile, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Child, freePort } from './child.mjs';
import { untilHealthy } from './health.mjs';

/** The rest of the environment is left out, so that nobody's configuration changes what is measured. */
const PASSED_ON = ['PATH', 'HOME', 'LANG', 'TMPDIR', 'DOCKER_HOST', 'DOCKER_CERT_PATH', 'DOCKER_TLS_VERIFY'];
const PATIENCE_MS = 20_000;

/** A manager as `npm start` runs it, with a database of its own, on loopback. */
export class Manager {
  constructor(origin, pid) {
    this.origin = origin;
    this.pid = pid;
  }

  static async start({ root, folder, engine, options, undo }) {
    const port = await freePort();
    const storage = join(folder, 'data');
    await mkdir(storage);
    const passed = PASSED_ON.filter((name) => process.env[name] !== undefined);
    const profile = join(root, '.cache', 'bench-profiles');
    const child = Child.run(
      process.execPath,
      [
        ...(options.profile ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : []),
        '--enable-source-maps',
        join(root, 'dist', 'apps', 'manager', 'src', 'main.js'),
      ],
      {
        cwd: root,
        env: {
          ...Object.fromEntries(passed.map((name) => [name, process.env[name]])),
          LISTEN_ADDR: `127.0.0.1:${port}`,
          FUNCTION_STORAGE_DIR: storage,
          ...engine.environment,
        },
      },
    );
    await undo.add(async () => {
      await child.end(PATIENCE_MS);
      await endDatabase(storage);
      if (options.profile) console.log(`The manager's CPU profile is in ${profile}`);
    });
    const origin = `http://127.0.0.1:${port}`;
    await Promise.race([
      untilHealthy({ origin }, { path: '/readyz', withinMs: 120_000 }),
      child.failure('The manager'),
    ]);
    return new Manager(origin, child.pid);
  }

  /** Where calls of a function go. */
  target(id) {
    return { origin: this.origin, path: `/functions/${id}/execute` };
  }

  /** Answers the id once the function is ready. */
  async upload({ code, handler }) {
    const form = new FormData();
    form.set('python_file', new Blob([code]), 'handler.py');
    form.set('function_name', handler);
    const { status, text } = await this.#ask('POST', '/functions', form);
    if (status !== 201) throw new Error(`An upload was answered ${status}: ${text}`);
    return JSON.parse(text).id;
  }

  call(id, payload) {
    return this.#ask('POST', `/functions/${id}/execute`, JSON.stringify({ payload }));
  }

  async remove(id) {
    const { status, text } = await this.#ask('DELETE', `/functions/${id}`);
    if (status !== 204) throw new Error(`A removal was answered ${status}: ${text}`);
  }

  async #ask(method, path, body) {
    const answer = await fetch(`${this.origin}${path}`, { method, body });
    return { status: answer.status, text: await answer.text() };
  }
}

/** A manager that had to be killed leaves its PostgreSQL running; the folder may be a link to where it could be. */
async function endDatabase(storage) {
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
