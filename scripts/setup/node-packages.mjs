import { existsSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { basename, delimiter, join } from 'node:path';
import { attempt, run, SetupError, step } from './progress.mjs';

/** The Node that everything after the setup runs on, from npm's own `node` package. */
export function projectNode(root) {
  return join(root, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
}

export function packagesInstalled(root) {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages;
  if (wanted === undefined)
    throw new SetupError('package-lock.json is missing or broken: restore it from the repository.');
  const found = readJson(join(root, 'node_modules', '.package-lock.json'))?.packages;
  if (found === undefined) return false;
  return Object.entries(wanted).every(
    ([path, { version, optional, peer }]) =>
      path === '' ||
      found[path]?.version === version ||
      (found[path] === undefined && (optional === true || peer === true)),
  );
}

export async function nodeInstalled(root) {
  const { version } = readJson(join(root, 'package-lock.json')).packages['node_modules/node'];
  const node = projectNode(root);
  if (!existsSync(node)) return false;
  const { ok, output } = await attempt(node, ['--version']);
  return ok && output.trim() === `v${version}`;
}

export async function installPackages(root) {
  // Scripts of packages stay off on every npm alike; the only one we need runs in the next step.
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--include=dev', '--include=optional'];
  await step('installing the npm packages', async () => {
    const { program, args } = npmCommand();
    const options = { cwd: root, env: outerEnvironment(root) };
    const { ok, output } = await attempt(program, [...args, 'ci', ...flags], options);
    if (ok) return;
    const faults = output.split('\n').filter((line) => line.startsWith('npm error'));
    if (!lacksOtherPlatformsOnly(faults)) throw new SetupError(`npm ci failed:\n${faults.slice(0, 20).join('\n')}`);
    await run(program, [...args, 'install', '--no-save', ...flags], options);
  });
}

/**
 * Some registries don't carry every platform's build of an optional package. npm ci then refuses a lock file made with
 * them, although nothing for this platform is missing; npm install follows the same lock file and takes it as it is.
 */
function lacksOtherPlatformsOnly(faults) {
  const found = faults.filter((line) => /^npm error (Missing|Invalid): /.test(line));
  return found.length > 0 && found.every((line) => /^npm error Missing: \S+@ from lock file$/.test(line.trim()));
}

export async function installNode(root) {
  const folder = join(root, 'node_modules', 'node');
  await step('installing Node.js for this project', async () => {
    const { ok, output } = await attempt(outerNode(root), ['installArchSpecificPackage.js'], {
      cwd: folder,
      env: { ...outerEnvironment(root), npm_config_ignore_scripts: 'true' },
    });
    if (ok && (await nodeInstalled(root))) return linkNode(root);
    throw new SetupError(
      `The project's own Node.js (${projectNode(root)}) could not be installed. ` +
        `Try: npm rebuild node --ignore-scripts=false --allow-scripts=node\n${output.trim().split('\n').slice(-10).join('\n')}`,
    );
  });
}

/** npm could not link it as a command, because it wasn't there yet; `npm run` and npx look for it here. */
function linkNode(root) {
  const link = join(root, 'node_modules', '.bin', 'node');
  if (process.platform === 'win32') return;
  rmSync(link, { force: true });
  symlinkSync(join('..', 'node', 'bin', 'node'), link);
}

export function npmCommand() {
  const script = process.env.npm_execpath;
  if (script !== undefined && basename(script) === 'npm-cli.js') {
    return { program: process.env.npm_node_execpath ?? process.execPath, args: [script] };
  }
  return { program: process.platform === 'win32' ? 'npm.cmd' : 'npm', args: [] };
}

/** The machine's own Node: this process may itself run on the one inside node_modules, which is being replaced. */
function outerNode(root) {
  const candidates = [process.env.npm_node_execpath, process.execPath];
  return candidates.find((path) => path !== undefined && !path.startsWith(join(root, 'node_modules'))) ?? 'node';
}

function outerEnvironment(root) {
  const path = (process.env.PATH ?? '')
    .split(delimiter)
    .filter((folder) => !folder.startsWith(join(root, 'node_modules')));
  return { ...process.env, PATH: path.join(delimiter) };
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}
