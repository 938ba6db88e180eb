// Serves from the sources: each saved file is compiled, by itself and unchecked, and the manager started anew with it,
// functions and all. Types are left to the editor and to npm run check, and the database goes on running meanwhile,
// which is what makes it quick.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, watch, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { DatabaseServer } from '../dist/libs/database/database-server.js';
import { loadConfig } from '../dist/libs/config/load-config.js';
import { createLogger } from '../dist/libs/observability/logger.js';
import { forgetBuild } from './setup/build.mjs';
import { say } from './setup/progress.mjs';
import { stopChild } from './setup/stop-child.mjs';

const STOP_MS = 10_000;
/** An editor may write several files, or one in several steps. */
const SETTLE_MS = 100;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const compilerOptions = optionsForOneFile();
/** @type {{ child?: import('node:child_process').ChildProcess, restarting?: Promise<void>, again: boolean }} */
const manager = { again: false };
const changed = new Set();
let ending = false;

const config = configured();
const database = await DatabaseServer.open(config.database, createLogger(config.log));
// What is compiled here was not checked.
forgetBuild(root);
for (const folder of ['apps/manager', 'libs']) {
  watch(join(root, folder), { recursive: true }, (_event, name) => {
    if (!name?.endsWith('.ts') || name.endsWith('.spec.ts')) return;
    changed.add(`${folder}/${name}`);
    restart(`${folder}/${name}`);
  });
}
watch(join(root, 'apps', 'worker', 'faas_worker'), { recursive: true }, (_event, name) => {
  if (name?.endsWith('.py')) restart(`apps/worker: ${name}`);
});
start();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => void end(0));

function restart(why) {
  if (ending) return;
  if (manager.restarting !== undefined) {
    manager.again = true;
    return;
  }
  manager.restarting = (async () => {
    await delay(SETTLE_MS);
    say(`• ${why} was saved, starting the manager anew`);
    try {
      compile();
    } catch (error) {
      // Such as a file that an editor has taken away for a moment: it is compiled when it is back.
      say(`✗ ${error.message}`);
    }
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
    env: { ...process.env, DATABASE_URL: database.url },
  });
  manager.child = child;
  child.on('exit', (code, signal) => {
    if (manager.child !== child) return;
    manager.child = undefined;
    if (!ending)
      say(`✗ The manager ended (${signal ?? `exit code ${code}`}); it is started again after the next change.`);
  });
}

/** Each file by itself, as `isolatedModules` makes sure that they can be; what refers to a removed one says so. */
function compile() {
  for (const name of changed) {
    const path = join(root, name);
    if (!existsSync(path)) continue;
    const output = join(root, 'dist', name.replace(/\.ts$/, '.js'));
    const asked = { fileName: path, compilerOptions, reportDiagnostics: true };
    const { outputText, sourceMapText, diagnostics = [] } = ts.transpileModule(readFileSync(path, 'utf8'), asked);
    for (const { messageText, start = 0, file } of diagnostics) {
      const line = (file?.getLineAndCharacterOfPosition(start).line ?? 0) + 1;
      say(`✗ ${name}:${line}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`);
    }
    mkdirSync(dirname(output), { recursive: true });
    const map = { ...JSON.parse(sourceMapText), sources: [relative(dirname(output), path)] };
    writeFileSync(`${output}.map`, JSON.stringify(map));
    writeFileSync(output, outputText);
  }
  changed.clear();
}

/** Those of the build; that a file is a module follows from package.json, which nobody reads for one file. */
function optionsForOneFile() {
  const { config: written } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => readFileSync(path, 'utf8'));
  const { options } = ts.convertCompilerOptionsFromJson(written.compilerOptions, root);
  return { ...options, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler };
}

function configured() {
  try {
    return loadConfig(process.env);
  } catch (error) {
    console.error(`✗ ${error.message}`);
    process.exit(1);
  }
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
  await manager.restarting;
  await stop();
  await database.close();
  process.exit(code);
}
