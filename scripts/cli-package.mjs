// Makes the command line's package, in .cache/cli-package or the folder named, and prints where the tarball is:
//   npm install -g "$(npm run --silent cli)"
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import { npmCommand } from './setup/node-packages.mjs';
import { run, say, step } from './setup/progress.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = resolve(process.argv[2] ?? join(root, '.cache', 'cli-package'));
const { version, license, engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

await step(`making the command line's package ${version}`, async () => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await bundle();
  copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
  copyFileSync(join(root, 'docs', 'cli.md'), join(folder, 'README.md'));
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest(), null, 2));
  const { program, args } = npmCommand();
  await run(program, [...args, 'pack', '--ignore-scripts'], { cwd: folder });
});
say(join(folder, `${manifest().name}-${version}.tgz`));

/** All in one file: it starts sooner than many do, and installing it needs no network. */
async function bundle() {
  const made = await rolldown({
    input: join(root, 'apps', 'cli', 'src', 'main.ts'),
    platform: 'node',
    resolve: {
      conditionNames: ['source', 'import', 'node', 'default'],
      extensionAlias: { '.js': ['.ts', '.js'] },
    },
    transform: { target: 'node20' },
  });
  await made.write({
    file: join(folder, 'faas.js'),
    format: 'esm',
    banner: '#!/usr/bin/env node',
    codeSplitting: false,
    minify: true,
  });
  await made.close();
}

function manifest() {
  return {
    name: 'service-faas-cli',
    version,
    description: 'The command line of service-faas.',
    license,
    type: 'module',
    bin: { faas: 'faas.js' },
    files: ['faas.js'],
    engines,
  };
}
