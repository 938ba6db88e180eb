import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { constants, existsSync } from 'node:fs';
import { chmod, chown, cp, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, delimiter, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import type { LayersConfig, ProcessConfig } from '#libs/config/config.js';
import { within } from '#libs/deadlines/within.js';
import {
  BuildFailed,
  type BuildRequest,
  type Built,
  jobFor,
  largestArchive,
  type LayerEngine,
  reportIn,
} from '#libs/orchestrator/layers.js';
import { Leaving } from '#libs/orchestrator/leaving.js';
import { removeLeftovers, removeTrees } from './clean-up.js';
import type { Interpreter } from './interpreter.js';
import { identityOf } from './process-table.js';
import { killAll } from './worker-process.js';
import type { UnpackedLayers } from './unpacked-layers.js';
import { type BuilderUsers, processesOf } from './users.js';

const END_MS = 3_000;
const LOOK_MS = 20_000;
/** What keeping a layer may take beyond its build, twice. */
const KEEP_MS = 2 * 60_000;
/** Of a report or a lock. */
const MIB = 1024 * 1024;
const LARGEST_TEXT = 4 * MIB;
/** What the folder of a build with a user of its own is called, before the user's number. */
const OWN_USER = 'user-';
/** What a build finds; its result is in the first. */
const FOLDERS = ['out', 'layer', 'tmp'];
const ARCHIVE = 'site-packages.tar';
const DESCRIBE = `import platform, sys
print(sys.implementation.cache_tag, platform.machine(), *platform.libc_ver())`;

/** Builds layers as processes of this machine, under a user of their own where there is one. */
export class ProcessLayers implements LayerEngine {
  private described: Promise<string> | undefined;
  private readonly leaving = new Leaving();
  private hasBuilt = false;

  /** @param users of builds; undefined: they run as the manager's user */
  constructor(
    private readonly config: ProcessConfig,
    private readonly rules: LayersConfig,
    private readonly folder: string,
    private readonly users: BuilderUsers | undefined,
    private readonly interpreter: () => Promise<Interpreter>,
    readonly unpacked: UnpackedLayers,
  ) {}

  platform(): Promise<string> {
    this.described ??= this.describe().catch((error: unknown) => {
      this.described = undefined;
      throw error;
    });
    return this.described;
  }

  async build<T>(
    request: BuildRequest,
    onLine: (line: string) => void,
    keep: (built: Built) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const { place, uid } = await this.claim();
    try {
      const job = await this.layOut(place, uid, request);
      await this.run(place, uid, job, onLine, signal);
      const report = reportIn(await this.read(join(place, 'out', 'result.json')), this.rules);
      const lock = await this.read(join(place, 'out', 'lock.txt'));
      return await keep({
        ...report,
        lock,
        archive: () => this.stream(join(place, 'out', ARCHIVE), largestArchive(this.rules)),
      });
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'ENOSPC') throw error;
      throw new BuildFailed('unavailable', 'There is no space left to build in.', { cause: error });
    } finally {
      this.hasBuilt = true;
      // The one who asked for it need not wait for that.
      this.leaving.add(this.clean(place));
    }
  }

  async sweep(kept: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    await this.unpacked.sweep(kept);
    for (const name of await readdir(this.buildsDir).catch(() => [])) {
      const place = join(this.buildsDir, name);
      const found = await stat(place).catch(() => undefined);
      const isOver = found !== undefined && Date.now() - found.mtimeMs > 2 * this.rules.timeoutMs + KEEP_MS;
      if (isOver) await this.clean(place);
    }
    await this.sweepCache(signal);
  }

  /** Waits for what is being removed. */
  close(): Promise<void> {
    return this.leaving.gone();
  }

  private get buildsDir(): string {
    return join(this.folder, 'builds');
  }

  private get cacheDir(): string {
    return join(this.folder, 'cache');
  }

  /**
   * A folder for one build. Where packages run code of their own while they are built, it bears the name of a user that
   * no other build has: whatever they have started ends with that user.
   */
  private async claim(): Promise<{ readonly place: string; readonly uid: number | undefined }> {
    for (const folder of [this.folder, this.buildsDir]) {
      await mkdir(folder, { recursive: true, mode: 0o711 });
      await chmod(folder, 0o711);
    }
    if (this.users === undefined || !this.rules.allowSdists) {
      const place = join(this.buildsDir, randomBytes(8).toString('hex'));
      await mkdir(place, { mode: 0o700 });
      return { place, uid: this.users?.shared };
    }
    const { first, count } = this.users.own;
    for (let attempt = 0; attempt < count; attempt += 1) {
      const uid = first + randomInt(count);
      const place = join(this.buildsDir, `${OWN_USER}${uid}`);
      try {
        await mkdir(place, { mode: 0o700 });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue;
        throw error;
      }
      // Another installation of this machine may have it.
      if ((await processesOf(uid)).length === 0) return { place, uid };
      await removeTrees([place]);
    }
    throw new BuildFailed('unavailable', 'No user is free for a build.');
  }

  /** What is left of a build: its files, and with a user of its own whatever that has anywhere. */
  private async clean(place: string): Promise<void> {
    const uid = ownUserOf(place);
    if (uid !== undefined) {
      await killAll(undefined, uid);
      await removeLeftovers(uid);
    }
    await removeTrees([place]);
  }

  /** Only after builds, which fill it. uv waits for those that are at work with it. */
  private async sweepCache(signal: AbortSignal): Promise<void> {
    if (!this.hasBuilt || this.rules.allowSdists) return;
    this.hasBuilt = false;
    const { command, env } = await this.interpreter();
    const most = String(this.rules.cacheMiB * MIB);
    const user = this.users && { uid: this.users.shared, gid: this.users.shared };
    await promisify(execFile)(command, ['-m', 'faas_builder.cache', await this.uv(), this.cacheDir, most], {
      env: { ...(await this.environment(env)), HOME: this.cacheDir },
      cwd: '/',
      signal,
      ...user,
    });
  }

  /** The job that can be done there. */
  private async layOut(place: string, uid: number | undefined, request: BuildRequest): Promise<string> {
    const cache = this.rules.allowSdists ? join(place, 'cache') : this.cacheDir;
    for (const folder of [...FOLDERS.map((name) => join(place, name)), cache]) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      if (uid !== undefined) await chown(folder, uid, uid);
    }
    // It stays the manager's: whoever could put a link in the place of `out` would have the manager read another build's.
    await chmod(place, 0o711);
    const { wheelsDir: wheels, memoryMiB } = this.rules;
    return jobFor(request, this.rules, { uv: await this.uv(), cache, wheels, memoryMiB });
  }

  private async environment(env: Readonly<Record<string, string>>): Promise<Record<string, string>> {
    return {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      LANG: 'C.UTF-8',
      PYTHONDONTWRITEBYTECODE: '1',
      ...env,
      PYTHONPATH: [await this.builder(), env['PYTHONPATH']].filter(Boolean).join(delimiter),
      ...(process.env['SSL_CERT_FILE'] && { SSL_CERT_FILE: process.env['SSL_CERT_FILE'] }),
    };
  }

  private async run(
    place: string,
    uid: number | undefined,
    job: string,
    onLine: (line: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { command, env } = await this.interpreter();
    const { rules } = this;
    const child = spawn(command, ['-m', 'faas_builder', place], {
      cwd: join(place, 'tmp'),
      detached: true,
      stdio: 'pipe',
      env: { ...(await this.environment(env)), HOME: join(place, 'tmp'), TMPDIR: join(place, 'tmp') },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    // It may end before it has read all of it.
    child.stdin.on('error', () => undefined);
    child.stdin.end(job);
    const errors = text(child.stderr);
    errors.catch(() => undefined);
    createInterface({ input: child.stdout }).on('line', onLine);
    const status = await this.ended(
      child,
      ownUserOf(place),
      AbortSignal.any([signal, AbortSignal.timeout(rules.timeoutMs)]),
      signal,
    );
    if (status !== 0) {
      const said = (await within('the last words of a build', { ms: END_MS }, () => errors)).slice(-2_000);
      throw new BuildFailed('unavailable', `The build ended with ${status ?? 'a signal'}: ${said}`);
    }
  }

  private async ended(
    child: ChildProcess,
    uid: number | undefined,
    over: AbortSignal,
    leaving: AbortSignal,
  ): Promise<number | null> {
    const exit = once(child, 'exit') as Promise<[number | null]>;
    exit.catch(() => undefined);
    // It leads a group of its own, by which all that it starts is ended.
    const family = child.pid === undefined ? undefined : await identityOf(child.pid);
    try {
      const [status] = await within('a build', { signal: over }, () => exit);
      return status;
    } catch (error) {
      if (!over.aborted) throw error;
      leaving.throwIfAborted();
      throw new BuildFailed('timed_out', `The build took longer than ${this.rules.timeoutMs} ms (BUILD_TIMEOUT_MS).`);
    } finally {
      await killAll(family, uid);
    }
  }

  private async read(path: string): Promise<string> {
    const stream = await this.stream(path, LARGEST_TEXT);
    return text(stream);
  }

  /** Not by way of a link, which the code of a source distribution may have made. */
  private async stream(path: string, most: number): Promise<Readable> {
    // Nor may a pipe in its place hold the thread that opens it.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = await file.stat();
    if (!found.isFile() || found.size > most) {
      await file.close();
      throw new BuildFailed('unavailable', 'The build left something else than what it is for.');
    }
    return file.createReadStream();
  }

  private async describe(): Promise<string> {
    const { command, env } = await this.interpreter();
    const { stdout } = await promisify(execFile)(command, ['-c', DESCRIBE], { env, cwd: '/', timeout: LOOK_MS });
    return stdout.trim();
  }

  /** Where the builds' user can run it. */
  private async uv(): Promise<string> {
    const { uv } = this.rules;
    if (!existsSync(uv)) {
      const what = `uv, which builds dependencies, is not at ${uv}: run npm install's setup again, or set BUILDER_UV.`;
      throw new BuildFailed('unavailable', what);
    }
    return join(await this.readable('uv', dirname(uv)), 'uv');
  }

  private builder(): Promise<string> {
    return this.readable('builder', this.config.workerDir, 'faas_builder');
  }

  /** A copy of a folder, or of one folder in it, that other users may read; made once for each state of it. */
  private async readable(name: string, source: string, only = ''): Promise<string> {
    if (this.users === undefined) return source;
    const from = join(source, only);
    const hash = createHash('sha256').update(from);
    for (const file of (await readdir(from)).toSorted()) {
      if (file !== '__pycache__') hash.update(`${file} ${(await stat(join(from, file))).mtimeMs} `);
    }
    const target = join(this.folder, `${name}-${hash.digest('hex').slice(0, 12)}`);
    if (existsSync(target)) return target;
    await mkdir(this.folder, { recursive: true, mode: 0o711 });
    const draft = `${target}.${randomBytes(4).toString('hex')}`;
    await cp(from, join(draft, only), { recursive: true, dereference: true });
    await promisify(execFile)('chmod', ['-R', 'a+rX', draft]);
    await rename(draft, target).catch(async (error: unknown) => {
      await rm(draft, { recursive: true, force: true });
      if (!existsSync(target)) throw error;
    });
    return target;
  }
}

function ownUserOf(place: string): number | undefined {
  const name = basename(place);
  return name.startsWith(OWN_USER) ? Number(name.slice(OWN_USER.length)) : undefined;
}
