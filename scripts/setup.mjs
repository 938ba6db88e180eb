// Makes a fresh clone ready with nothing but Node >= 20, npm and python3, then runs a script on the project's Node:
//   node scripts/setup.mjs [--dev] [--no-build] [--then SCRIPT [ARGUMENT...]]
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, built } from './setup/build.mjs';
import { clientMade, makeClient } from './setup/client.mjs';
import { withLock } from './setup/lock.mjs';
import { installNode, installPackages, nodeInstalled, packagesInstalled, projectNode } from './setup/node-packages.mjs';
import { SetupError } from './setup/progress.mjs';
import { installWorkerPython, workerPythonReady } from './setup/worker-python.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const then = args.indexOf('--then');
const flags = new Set(then === -1 ? args : args.slice(0, then));
const command = then === -1 ? [] : args.slice(then + 1);
const options = { dev: flags.has('--dev') };

try {
  checkNode();
  // Functions of a manager that runs as root run as other users, who must be able to read what is installed here.
  process.umask(0o022);
  if (!(await ready())) await withLock(join(root, '.cache', 'setup.lock'), setUp);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`\n✗ ${error.message}`);
  process.exit(1);
}
if (command.length > 0) runOnProjectNode(command);

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  throw new SetupError(`Node.js 20.19 or newer is needed to begin with, this is ${process.versions.node}: update it.`);
}

async function ready() {
  if (!packagesInstalled(root)) return false;
  const [node, python] = await Promise.all([nodeInstalled(root), workerPythonReady(root, options)]);
  return node && python && (flags.has('--no-build') || built(root)) && (!options.dev || clientMade(root));
}

async function setUp() {
  if (!packagesInstalled(root)) await installPackages(root);
  if (!(await nodeInstalled(root))) await installNode(root);
  if (!(await workerPythonReady(root, options))) await installWorkerPython(root, options);
  if (!flags.has('--no-build') && !built(root)) await build(root);
  if (options.dev && !clientMade(root)) await makeClient(root);
}

function runOnProjectNode([script, ...rest]) {
  const node = projectNode(root);
  const path = [dirname(node), process.env.PATH].join(process.platform === 'win32' ? ';' : ':');
  const child = spawn(node, ['--enable-source-maps', join(root, script), ...rest], {
    cwd: root,
    stdio: 'inherit',
    env: { NODE_COMPILE_CACHE: join(root, '.cache', 'compiled'), ...process.env, PATH: path },
  });
  // Ctrl-C reaches the child by itself, as it is in the same terminal; other requests to end must be passed on.
  process.on('SIGINT', () => undefined);
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    console.error(`✗ ${node} can't be started: ${error.message}`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));
}
