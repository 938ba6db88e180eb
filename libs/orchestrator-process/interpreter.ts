import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { delimiter, dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import type { ProcessConfig } from '#libs/config/config.js';
import { canGuard, startAs } from './users.js';

const run = promisify(execFile);
const PROBE_TIMEOUT_MS = 60_000;
/**
 * Whether there is what the worker needs besides the standard library, without the half second that loading all of it
 * takes: what was compiled for one Python is loaded, of the rest the first file is opened. The folder's path proves
 * that its parents can be passed.
 */
const PROBE = `import os, sys, httptools, pydantic_core, uvloop
from importlib.util import find_spec
for name in ("fastapi", "uvicorn", "faas_worker.__main__"):
    found = find_spec(name)
    if found is None:
        raise ModuleNotFoundError(f"No module named '{name}'")
    open(found.origin).close()
os.stat(sys.argv[1] + "/.")`;

const DESCRIBE = `import json, os, sys, sysconfig
paths = sysconfig.get_paths()
print(json.dumps({
    "executable": os.path.realpath(sys.executable),
    "prefix": os.path.realpath(sys.base_prefix),
    "packages": sorted({paths["purelib"], paths["platlib"]}),
}))`;

/** A Python that the workers' users can run, with the worker on its path. */
export interface Interpreter {
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
  /** Changes with the worker's own code: replicas of another worker are replaced. */
  readonly key: string;
  /** It also runs as a process that its handlers can't signal. */
  readonly guardable: boolean;
}

/**
 * Finds out by running it, as the user that workers will have, whether Python can load the worker. Where it can't but
 * we can, as with an interpreter in root's home, what it needs is copied once to a place that all may read.
 *
 * @param uid undefined: workers run as this process's own user
 */
export async function findInterpreter(config: ProcessConfig, uid: number | undefined): Promise<Interpreter> {
  const { python, workerDir, runtimeDir } = config;
  const key = await workerKey(config);
  let found = { command: python, env: { PYTHONPATH: workerDir }, key, guardable: false };
  let fault = await probe(found, runtimeDir, uid);
  if (fault !== undefined) {
    const own = uid === undefined ? fault : await probe(found, runtimeDir, undefined);
    if (own !== undefined) throw new Error(`${python} can't load the worker: ${own}`);
    found = { ...found, ...(await copyInterpreter(config, key)) };
    fault = await probe(found, runtimeDir, uid);
  }
  if (fault !== undefined) {
    const blocked = await firstClosedFolder(runtimeDir);
    const remedy = blocked === undefined ? '' : ` Let other users pass: chmod o+x ${blocked}.`;
    throw new Error(`workers run as users of their own, and those can't run Python: ${fault}.${remedy}`);
  }
  const guarded = { ...found, guardable: true };
  return uid !== undefined && canGuard() && (await probe(guarded, runtimeDir, uid)) === undefined ? guarded : found;
}

/** Copies the packages, the worker and, where it is no part of the system, Python itself. Once per content. */
async function copyInterpreter(config: ProcessConfig, key: string) {
  const { stdout } = await run(config.python, ['-c', DESCRIBE], { cwd: '/' });
  const { executable, prefix, packages } = JSON.parse(stdout) as Record<'executable' | 'prefix', string> & {
    readonly packages: readonly string[];
  };
  const hash = createHash('sha256').update(key).update(stdout);
  for (const path of [executable, ...packages]) hash.update(String((await stat(path)).mtimeMs));
  const target = join(config.runtimeDir, `.python-${hash.digest('hex').slice(0, 12)}`);
  const isOfSystem = /^\/usr(\/local)?$/.test(prefix);
  if (!existsSync(target)) {
    const draft = `${target}.${randomBytes(4).toString('hex')}`;
    try {
      for (const folder of ['packages', 'worker']) await mkdir(join(draft, folder), { recursive: true });
      // With their times, or Python would take its compiled files for stale.
      for (const folder of packages) await run('cp', ['-aL', `${folder}/.`, join(draft, 'packages')]);
      await run('cp', ['-aL', join(config.workerDir, 'faas_worker'), join(draft, 'worker')]);
      if (!isOfSystem) await run('cp', ['-a', prefix, join(draft, 'python')]);
      await run('chmod', ['-R', 'a+rX', draft]);
      await rename(draft, target);
    } catch (error) {
      // Another process may have been faster; its copy is as good.
      if (!existsSync(target)) throw error;
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  }
  const python = join(target, 'python');
  return {
    command: isOfSystem ? executable : join(python, relative(prefix, executable)),
    env: {
      PYTHONPATH: [join(target, 'worker'), join(target, 'packages')].join(delimiter),
      ...(!isOfSystem && { PYTHONHOME: python, LD_LIBRARY_PATH: join(python, 'lib') }),
    },
  };
}

async function workerKey({ python, workerDir }: ProcessConfig): Promise<string> {
  const folder = join(workerDir, 'faas_worker');
  const hash = createHash('sha256').update(python);
  try {
    hash.update(await realpath(python));
    const files = await readdir(folder, { recursive: true });
    for (const name of files.filter((file) => file.endsWith('.py')).toSorted()) {
      hash.update(name).update(await readFile(join(folder, name)));
    }
  } catch (error) {
    throw new Error(`its Python or its worker is missing: ${String(error)}`, { cause: error });
  }
  return hash.digest('hex').slice(0, 12);
}

/** Undefined when it works, else the reason in one line. */
async function probe(interpreter: Interpreter, folder: string, uid: number | undefined): Promise<string | undefined> {
  const env = { ...interpreter.env, PATH: '/usr/bin:/bin', PYTHONDONTWRITEBYTECODE: '1' };
  const { command, args, user } = startAs(uid, interpreter, ['-c', PROBE, folder], env);
  try {
    await run(command, args, { ...user, env, cwd: '/', timeout: PROBE_TIMEOUT_MS });
    return undefined;
  } catch (error) {
    const { code, message, stderr = '' } = error as NodeJS.ErrnoException & { readonly stderr?: string };
    if (code === 'EPERM') return 'the manager is root but may not switch users (it lacks CAP_SETUID and CAP_SETGID)';
    return stderr.trim().split('\n').at(-1) || message;
  }
}

/** The first folder on the way that other users can't pass. */
async function firstClosedFolder(path: string): Promise<string | undefined> {
  const above = dirname(path) === path ? undefined : await firstClosedFolder(dirname(path));
  return above ?? (((await stat(path)).mode & 0o001) === 0 ? path : undefined);
}
