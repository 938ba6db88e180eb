import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { constants, existsSync } from 'node:fs';
import { chmod, chown, cp, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
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
import { removeTrees } from './clean-up.js';
import type { Interpreter } from './interpreter.js';
import { identityOf } from './process-table.js';
import { killAll } from './worker-process.js';
import type { UnpackedLayers } from './unpacked-layers.js';

const END_MS = 3_000;
const LOOK_MS = 20_000;
/** Of a report or a lock. */
const LARGEST_TEXT = 4 * 1024 * 1024;
const DESCRIBE = `import platform, sys
print(sys.implementation.cache_tag, platform.machine(), *platform.libc_ver())`;

/** Builds layers as processes of this machine, under a user of their own where there is one. */
export class ProcessLayers implements LayerEngine {
  private described: Promise<string> | undefined;

  /** @param uid of builds; undefined: they run as the manager's user */
  constructor(
    private readonly config: ProcessConfig,
    private readonly rules: LayersConfig,
    private readonly folder: string,
    private readonly uid: number | undefined,
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
    const place = join(this.folder, 'builds', randomBytes(8).toString('hex'));
    try {
      await this.layOut(place, request);
      await this.run(place, onLine, signal);
      const report = reportIn(await this.read(join(place, 'out', 'result.json')));
      const lock = await this.read(join(place, 'out', 'lock.txt'));
      return await keep({
        ...report,
        lock,
        archive: () => this.stream(join(place, 'out', 'layer.tar'), largestArchive(this.rules)),
      });
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== 'ENOSPC') throw error;
      throw new BuildFailed('unavailable', 'There is no space left to build in.', { cause: error });
    } finally {
      await removeTrees([place]);
    }
  }

  async sweep(kept: ReadonlySet<string>): Promise<void> {
    await this.unpacked.sweep(kept);
    const builds = join(this.folder, 'builds');
    for (const name of await readdir(builds).catch(() => [])) {
      const found = await stat(join(builds, name)).catch(() => undefined);
      const isOver = found !== undefined && Date.now() - found.mtimeMs > 2 * this.rules.timeoutMs + LOOK_MS;
      if (isOver) await removeTrees([join(builds, name)]);
    }
  }

  private async layOut(place: string, request: BuildRequest): Promise<void> {
    const { uid } = this;
    const cache = join(this.folder, this.rules.allowSdists ? `builds/${place.split('/').at(-1)}/cache` : 'cache');
    for (const folder of [this.folder, join(this.folder, 'builds')]) {
      await mkdir(folder, { recursive: true, mode: 0o711 });
      await chmod(folder, 0o711);
    }
    for (const folder of [place, join(place, 'in'), join(place, 'out'), join(place, 'tmp'), cache]) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      if (uid !== undefined) await chown(folder, uid, uid);
    }
    const places = { uv: await this.uv(), cache, wheels: this.rules.wheelsDir };
    const job = join(place, 'in', 'job.json');
    await writeFile(job, jobFor(request, this.rules, places), { mode: 0o600, flag: 'wx' });
    if (uid !== undefined) await chown(job, uid, uid);
  }

  private async run(place: string, onLine: (line: string) => void, signal: AbortSignal): Promise<void> {
    const { command, env } = await this.interpreter();
    const { uid, rules } = this;
    const child = spawn(command, ['-m', 'faas_builder', place], {
      cwd: join(place, 'tmp'),
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: '/usr/local/bin:/usr/bin:/bin',
        LANG: 'C.UTF-8',
        HOME: join(place, 'tmp'),
        TMPDIR: join(place, 'tmp'),
        PYTHONDONTWRITEBYTECODE: '1',
        ...env,
        PYTHONPATH: [await this.builder(), env['PYTHONPATH']].filter(Boolean).join(delimiter),
        ...(process.env['SSL_CERT_FILE'] && { SSL_CERT_FILE: process.env['SSL_CERT_FILE'] }),
      },
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    const errors = text(child.stderr);
    errors.catch(() => undefined);
    createInterface({ input: child.stdout }).on('line', onLine);
    const status = await this.ended(child, AbortSignal.any([signal, AbortSignal.timeout(rules.timeoutMs)]), signal);
    if (status !== 0) {
      const said = (await within('the last words of a build', { ms: END_MS }, () => errors)).slice(-2_000);
      throw new BuildFailed('unavailable', `The build ended with ${status ?? 'a signal'}: ${said}`);
    }
  }

  private async ended(child: ChildProcess, over: AbortSignal, leaving: AbortSignal): Promise<number | null> {
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
      await killAll(family, undefined);
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
    if (this.uid === undefined) return source;
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
