import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { attempt, run, SetupError, step } from './progress.mjs';

const OLDEST_MINOR = 11;
const CANDIDATES = ['python3', '/usr/bin/python3', '/usr/local/bin/python3', 'python3.14', 'python3.13', 'python3.12'];
const LAST_CANDIDATES = ['python3.11', 'python'];
const DESCRIBE = 'import sys; print("%d.%d.%d" % sys.version_info[:3], sys.base_prefix)';

export function workerPython(root) {
  const parts = process.platform === 'win32' ? ['Scripts', 'python.exe'] : ['bin', 'python'];
  return join(root, '.cache', 'worker-venv', ...parts);
}

/** Whether the environment holds what the lock files ask for, with an interpreter that still runs. */
export async function workerPythonReady(root, { dev }) {
  const stamp = readStamp(root);
  if (stamp === undefined) return false;
  const wanted = lockHashes(root);
  if (stamp.requirements !== wanted.requirements || stamp.builder !== wanted.builder) return false;
  if (dev && (stamp.dev !== wanted.dev || stamp.handlers !== wanted.handlers)) return false;
  return (await identify(workerPython(root))) === stamp.python;
}

export async function installWorkerPython(root, { dev }) {
  const { program, identity } = await findPython();
  const stamp = readStamp(root);
  rmSync(stampPath(root), { force: true });
  await step(`making the worker's Python environment (Python ${identity})`, async () => {
    const reusable =
      (await identify(workerPython(root))) === identity &&
      (await attempt(workerPython(root), ['-m', 'pip', '--version'])).ok;
    if (!reusable) {
      const folder = join(root, '.cache', 'worker-venv');
      rmSync(folder, { recursive: true, force: true });
      await run(program, ['-m', 'venv', folder]);
    }
    // Once asked for, the development tools stay, so that tests and demos in turn don't undo each other.
    const withDev = dev || (reusable && stamp?.dev !== undefined);
    const hashes = lockHashes(root);
    const worker = join(root, 'apps', 'worker');
    const files = ['requirements.lock', ...(withDev ? ['requirements-dev.lock'] : [])];
    const install = async (flags, ...names) => {
      const quiet = ['--disable-pip-version-check', '--no-input', '--quiet', '--require-hashes'];
      const locks = names.flatMap((name) => ['-r', join(worker, name)]);
      await run(workerPython(root), ['-m', 'pip', 'install', ...quiet, ...flags, ...locks], { cwd: root });
    };
    await install([], ...files);
    // Apart from the worker's packages: handlers find nothing there that installs others.
    const builder = join(root, '.cache', 'builder');
    rmSync(builder, { recursive: true, force: true });
    await install(['--target', builder, '--only-binary', ':all:'], 'requirements-builder.lock');
    if (withDev) {
      // In a folder of their own: where workers can't read this one, all of their environment is copied for them.
      const folder = join(root, '.cache', 'handler-packages');
      rmSync(folder, { recursive: true, force: true });
      await install(['--target', folder, '--only-binary', ':all:'], 'requirements-handlers.lock');
    }
    const { requirements, builder: uv, dev: tools, handlers } = hashes;
    const made = { python: identity, requirements, builder: uv, ...(withDev ? { dev: tools, handlers } : {}) };
    writeFileSync(stampPath(root), JSON.stringify(made));
  });
}

/** Whether everybody may enter the folder and all those above it. */
function isOpen(path) {
  const open = (statSync(path).mode & 0o001) !== 0;
  return open && (dirname(path) === path || isOpen(dirname(path)));
}

async function findPython() {
  const seen = [];
  const usable = [];
  const candidates = process.env.PYTHON ? [process.env.PYTHON] : [...CANDIDATES, ...LAST_CANDIDATES];
  for (const program of candidates) {
    const identity = await identify(program);
    if (identity === undefined) continue;
    const [major, minor] = identity.split(/[. ]/).map(Number);
    const name = `${program} (${identity})`;
    if (major !== 3 || minor < OLDEST_MINOR) seen.push(`${name} is too old`);
    else if (!(await attempt(program, ['-c', 'import ensurepip, venv'])).ok) {
      seen.push(`${name} can't make virtual environments: on Debian and Ubuntu, apt install python3-venv`);
    } else usable.push({ program, identity });
  }
  const chosen = usable.find(reachable) ?? usable[0];
  if (chosen !== undefined) return chosen;
  throw new SetupError(
    `Python 3.${OLDEST_MINOR} or newer with venv is needed (${seen.length > 0 ? seen.join('; ') : 'none was found'}). ` +
      'Install it (Debian and Ubuntu: apt install python3 python3-venv), or name one with PYTHON=/path/to/python3.',
  );
}

/** Root's own Python, in its home, is no use to the functions' users when the system has one too. */
function reachable({ identity }) {
  return process.getuid?.() !== 0 || isOpen(identity.slice(identity.indexOf(' ') + 1));
}

/** The version and the installation of an interpreter, or of the one that an environment was made from. */
async function identify(program) {
  const { ok, output } = await attempt(program, ['-I', '-S', '-c', DESCRIBE]);
  return ok ? output.trim() : undefined;
}

function lockHashes(root) {
  const hash = (name) => {
    const path = join(root, 'apps', 'worker', name);
    if (!existsSync(path)) throw new SetupError(`${path} is missing: restore it from the repository.`);
    return createHash('sha256').update(readFileSync(path)).digest('hex');
  };
  return {
    requirements: hash('requirements.lock'),
    builder: hash('requirements-builder.lock'),
    dev: hash('requirements-dev.lock'),
    handlers: hash('requirements-handlers.lock'),
  };
}

function stampPath(root) {
  return join(root, '.cache', 'worker-venv', 'setup-stamp.json');
}

function readStamp(root) {
  try {
    return JSON.parse(readFileSync(stampPath(root), 'utf8'));
  } catch {
    return undefined;
  }
}
