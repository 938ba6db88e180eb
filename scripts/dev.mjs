// Serves from the sources: each saved change is compiled and the manager started anew with it, functions and all. Types
// are left to the editor and to npm run check, which is what makes it quick.
import { spawn } from 'node:child_process';
import { watch } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { forgetBuild } from './setup/build.mjs';
import { say } from './setup/progress.mjs';
import { stopChild } from './setup/stop-child.mjs';

const STOP_MS = 10_000;
/** An editor may write several files, or one in several steps. */
const SETTLE_MS = 100;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** @type {{ child?: import('node:child_process').ChildProcess, restarting?: Promise<void>, again: boolean }} */
const manager = { again: false };
let ending = false;

// What is compiled here was not checked.
forgetBuild(root);
const compiler = spawn(
  process.execPath,
  [
    join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    ...['--project', 'tsconfig.build.json', '--tsBuildInfoFile', '.cache/tsc/dev.tsbuildinfo'],
    ...['--watch', '--noCheck', '--preserveWatchOutput', '--pretty', 'false'],
  ],
  { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] },
);
compiler.on('exit', () => void end(1));
createInterface({ input: compiler.stdout }).on('line', (line) => {
  if (/: error TS\d+/.test(line)) say(`✗ ${line}`);
  else if (/Watching for file changes/.test(line)) restart('compiled');
});
watch(join(root, 'apps', 'worker', 'faas_worker'), { recursive: true }, (_event, name) => {
  if (name?.endsWith('.py')) restart(`apps/worker: ${name}`);
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void end(0));

function restart(why) {
  if (ending) return;
  if (manager.restarting !== undefined) {
    manager.again = true;
    return;
  }
  manager.restarting = (async () => {
    await delay(SETTLE_MS);
    say(`• ${why}, (re)starting the manager`);
    await stop();
    if (!ending) start();
  })().finally(() => {
    manager.restarting = undefined;
    if (manager.again) restart(why);
    manager.again = false;
  });
}

function start() {
  const child = spawn(process.execPath, ['--enable-source-maps', '--inspect', join(root, 'scripts', 'start.mjs')], {
    cwd: root,
    stdio: 'inherit',
  });
  manager.child = child;
  child.on('exit', (code, signal) => {
    if (manager.child !== child) return;
    manager.child = undefined;
    if (!ending)
      say(`✗ The manager ended (${signal ?? `exit code ${code}`}); it is started again after the next change.`);
  });
}

async function stop() {
  const { child } = manager;
  if (child === undefined) return;
  manager.child = undefined;
  await stopChild(child, STOP_MS);
}

async function end(code) {
  if (ending) return;
  ending = true;
  compiler.kill();
  await manager.restarting;
  await stop();
  process.exit(code);
}
