import { existsSync } from 'node:fs';
import { cp, mkdir, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';

export interface BuildCopy {
  readonly root: string;
  readonly main: string;
  readonly workerDir: string;
  /** Where managers keep what Node compiled, once one has ended by itself; it goes with the copy. */
  readonly compiledDir: string;
}

/** The built manager and the worker, copied: whoever builds or edits meanwhile doesn't change what is under test. */
export async function copyBuild(to: string): Promise<BuildCopy> {
  const main = join('dist', 'apps', 'manager', 'src', 'main.js');
  if (!existsSync(main)) throw new Error(`${main} is missing: build it with "node scripts/setup.mjs --dev".`);
  await mkdir(to, { recursive: true });
  await cp('dist', join(to, 'dist'), { recursive: true });
  await cp('package.json', join(to, 'package.json'));
  for (const name of ['faas_worker', 'faas_builder']) {
    await cp(join('apps', 'worker', name), join(to, 'worker', name), { recursive: true });
  }
  await symlink(resolve('node_modules'), join(to, 'node_modules'));
  return { root: to, main: join(to, main), workerDir: join(to, 'worker'), compiledDir: join(to, 'compiled') };
}
