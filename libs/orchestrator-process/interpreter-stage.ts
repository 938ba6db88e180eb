import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { cp, mkdir, rename, rm, stat } from 'node:fs/promises';
import { basename, delimiter, join, relative } from 'node:path';
import { promisify } from 'node:util';
import type { ProcessConfig } from '#libs/config/config.js';

const run = promisify(execFile);

const DESCRIBE = `import json, sys, sysconfig
paths, var = sysconfig.get_paths(), sysconfig.get_config_var
print(json.dumps({
    "executable": getattr(sys, "_base_executable", sys.executable),
    "version": "python%d.%d" % sys.version_info[:2],
    "stdlib": paths["stdlib"],
    "packages": sorted({paths["purelib"], paths["platlib"]}),
    "libraryDir": var("LIBDIR"),
    "library": var("INSTSONAME") if var("Py_ENABLE_SHARED") else None,
}))`;

export interface StagedInterpreter {
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
}

interface Installation {
  readonly executable: string;
  readonly version: string;
  readonly stdlib: string;
  readonly packages: readonly string[];
  readonly libraryDir: string;
  readonly library: string | null;
}

/** Large parts of an installation that no worker needs. */
const LEFT_OUT = new Set(['site-packages', 'test', 'idlelib', 'tkinter', 'turtledemo', 'ensurepip', 'lib2to3', 'pip']);

/** Copies the interpreter, its packages and the worker into the runtime folder, readable by all. Once per content. */
export async function stageInterpreter(config: ProcessConfig, key: string): Promise<StagedInterpreter> {
  const { stdout } = await run(config.python, ['-c', DESCRIBE], { cwd: '/' });
  const installation = JSON.parse(stdout) as Installation;
  const target = join(config.runtimeDir, `.python-${await stageKey(installation, key)}`);
  const isThere = await stat(target).then(
    () => true,
    () => false,
  );
  if (!isThere) await copyInto(target, installation, config.workerDir);
  // A distribution's own Python looks for packages elsewhere than in site-packages, so that folder is named.
  const packages = join(target, 'lib', installation.version, 'site-packages');
  return {
    command: join(target, 'bin', basename(installation.executable)),
    env: {
      PYTHONHOME: target,
      PYTHONPATH: [join(target, 'worker'), packages].join(delimiter),
      LD_LIBRARY_PATH: join(target, 'lib'),
    },
  };
}

async function stageKey(installation: Installation, key: string): Promise<string> {
  const hash = createHash('sha256').update(key).update(JSON.stringify(installation));
  for (const path of [installation.executable, installation.stdlib, ...installation.packages]) {
    hash.update(String((await stat(path)).mtimeMs));
  }
  return hash.digest('hex').slice(0, 12);
}

async function copyInto(target: string, installation: Installation, workerDir: string): Promise<void> {
  const draft = `${target}.${randomBytes(4).toString('hex')}`;
  const lib = join(draft, 'lib', installation.version);
  try {
    await mkdir(join(draft, 'bin'), { recursive: true });
    await cp(installation.executable, join(draft, 'bin', basename(installation.executable)), { dereference: true });
    await copyTree(installation.stdlib, lib, (top) => LEFT_OUT.has(top) || top.startsWith('config-'));
    for (const folder of installation.packages) {
      await copyTree(folder, join(lib, 'site-packages'), (top) => top === 'pip' || top === 'setuptools');
    }
    if (installation.library !== null) {
      const library = join(installation.libraryDir, installation.library);
      await cp(library, join(draft, 'lib', installation.library), { dereference: true });
    }
    await copyTree(join(workerDir, 'faas_worker'), join(draft, 'worker', 'faas_worker'), () => false);
    await run('chmod', ['-R', 'a+rX', draft]);
    await rename(draft, target);
  } catch (error) {
    // Another manager may have been faster; its copy is as good.
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

function copyTree(from: string, to: string, leftOut: (topName: string) => boolean): Promise<void> {
  const filter = (path: string) => !leftOut(relative(from, path).split('/')[0] ?? '');
  // With other times than the sources had, Python would take its compiled files for stale.
  return cp(from, to, { recursive: true, dereference: true, preserveTimestamps: true, filter });
}
