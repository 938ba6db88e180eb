import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { projectNode } from './node-packages.mjs';
import { run, SetupError, step } from './progress.mjs';

const CONFIGURATION = ['package-lock.json', 'nest-cli.json', 'tsconfig.json', 'tsconfig.build.json'];
const SOURCES = ['apps/manager', 'libs'];

/** Whether dist/ was built from the sources as they are now. */
export function built(root) {
  if (!existsSync(entry(root))) return false;
  return JSON.stringify(readStamp(root)) === JSON.stringify(sources(root));
}

export async function build(root) {
  await step('building the manager', async () => {
    const before = readStamp(root);
    const now = sources(root);
    forgetBuild(root);
    // The compiler leaves the output of removed files behind, and writes nothing that it believes to be there.
    if (before === undefined || !existsSync(entry(root)) || Object.keys(before).some((name) => !(name in now))) {
      rmSync(join(root, 'dist'), { recursive: true, force: true });
      rmSync(join(root, '.cache', 'tsc', 'build.tsbuildinfo'), { force: true });
    }
    await run(projectNode(root), [join(root, 'node_modules', '@nestjs', 'cli', 'bin', 'nest.js'), 'build'], {
      cwd: root,
    });
    if (!existsSync(entry(root))) throw new SetupError(`The build made no ${entry(root)}.`);
    mkdirSync(dirname(stampPath(root)), { recursive: true });
    writeFileSync(stampPath(root), JSON.stringify(now));
  });
}

/** What is in dist/ by now was not built here: the next build is made from nothing. */
export function forgetBuild(root) {
  rmSync(stampPath(root), { force: true });
}

function entry(root) {
  return join(root, 'dist', 'apps', 'manager', 'src', 'main.js');
}

function sources(root) {
  const found = {};
  const add = (name) => {
    const path = join(root, name);
    if (!existsSync(path)) return;
    const { mtimeMs, size } = statSync(path);
    found[name] = `${mtimeMs}:${size}`;
  };
  for (const name of CONFIGURATION) add(name);
  for (const folder of SOURCES) {
    if (!existsSync(join(root, folder))) continue;
    const names = readdirSync(join(root, folder), { recursive: true }).map(String).toSorted();
    for (const name of names) if (/\.(ts|json)$/.test(name) && !name.endsWith('.spec.ts')) add(`${folder}/${name}`);
  }
  return found;
}

function stampPath(root) {
  return join(root, '.cache', 'build-stamp.json');
}

function readStamp(root) {
  try {
    return JSON.parse(readFileSync(stampPath(root), 'utf8'));
  } catch {
    return undefined;
  }
}
