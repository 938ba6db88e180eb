import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { BuildCopy } from '../../crash/support/build-copy.js';
import type { TestEngine } from '../../support/engine.js';

const MAKE_MS = 170_000;

/** A release as it is installed: its managers and its worker. */
export interface Release {
  readonly build: BuildCopy;
  /** What makes managers of any release use this one's worker. */
  readonly worker: Readonly<Record<string, string>>;
}

/** What is under test; its worker is the one that an engine's room names. */
export const PRESENT: BuildCopy = buildIn(resolve('.'));

/** The release before it, made ready by `scripts/former-release.mjs` where it isn't yet. */
export async function formerRelease({ name }: TestEngine): Promise<Release> {
  const args = ['scripts/former-release.mjs', ...(name === 'docker' ? ['--image'] : [])];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: MAKE_MS });
  const made = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as { root: string; image?: string };
  const build = buildIn(made.root);
  const python = join(made.root, '.cache', 'worker-venv', 'bin', 'python');
  return {
    build,
    worker:
      made.image === undefined ? { WORKER_DIR: build.workerDir, WORKER_PYTHON: python } : { WORKER_IMAGE: made.image },
  };
}

function buildIn(root: string): BuildCopy {
  return {
    root,
    main: join(root, 'dist', 'apps', 'manager', 'src', 'main.js'),
    workerDir: join(root, 'apps', 'worker'),
    compiledDir: join(root, '.cache', 'compiled'),
  };
}
