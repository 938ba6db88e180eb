import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, rename, rm, stat } from 'node:fs/promises';
import { basename, delimiter, join, relative } from 'node:path';
import { promisify } from 'node:util';
import type { ProcessConfig } from '#libs/config/config.js';

const run = promisify(execFile);

const DESCRIBE = `import json, os, sys, sysconfig
paths, var = sysconfig.get_paths(), sysconfig.get_config_var
print(json.dumps({
    "executable": getattr(sys, "_base_executable", sys.executable),
    "version": "python%d.%d" % sys.version_info[:2],
    "stdlib": paths["stdlib"],
    "packages": sorted({paths["purelib"], paths["platlib"]}),
    "library": os.path.join(var("LIBDIR"), var("INSTSONAME")) if var("Py_ENABLE_SHARED") else None,
}))`;

interface Installation {
  readonly executable: string;
  readonly version: string;
  readonly stdlib: string;
  readonly packages: readonly string[];
  readonly library: string | null;
}

/** Large parts of an installation that no worker needs. */
const LEFT_OUT = /^(site-packages|test|idlelib|tkinter|turtledemo|ensurepip|lib2to3|pip|setuptools|config-.*)$/;

/** Copies the interpreter, its packages and the worker into the runtime folder, readable by all. Once per content. */
export async function copyInterpreter(
  config: ProcessConfig,
  key: string,
): Promise<{ readonly command: string; readonly env: Readonly<Record<string, string>> }> {
  const { stdout } = await run(config.python, ['-c', DESCRIBE], { cwd: '/' });
  const installation = JSON.parse(stdout) as Installation;
  const hash = createHash('sha256').update(key).update(stdout);
  for (const path of [installation.executable, installation.stdlib, ...installation.packages]) {
    hash.update(String((await stat(path)).mtimeMs));
  }
  const target = join(config.runtimeDir, `.python-${hash.digest('hex').slice(0, 12)}`);
  if (!existsSync(target)) await copyInto(target, installation, config.workerDir);
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

async function copyInto(target: string, installation: Installation, workerDir: string): Promise<void> {
  const draft = `${target}.${randomBytes(4).toString('hex')}`;
  const { executable, library, packages, stdlib, version } = installation;
  const lib = join(draft, 'lib', version);
  try {
    await mkdir(join(draft, 'bin'), { recursive: true });
    await copy(executable, join(draft, 'bin', basename(executable)));
    await copy(stdlib, lib);
    for (const folder of packages) await copy(folder, join(lib, 'site-packages'));
    if (library !== null) await copy(library, join(draft, 'lib', basename(library)));
    await copy(join(workerDir, 'faas_worker'), join(draft, 'worker', 'faas_worker'));
    await run('chmod', ['-R', 'a+rX', draft]);
    await rename(draft, target);
  } catch (error) {
    // Another process may have been faster; its copy is as good.
    if (!existsSync(target)) throw error;
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

function copy(from: string, to: string): Promise<void> {
  const filter = (path: string) => !LEFT_OUT.test(relative(from, path).split('/')[0] ?? '');
  // With other times than the sources had, Python would take its compiled files for stale.
  return cp(from, to, { recursive: true, dereference: true, preserveTimestamps: true, filter });
}
