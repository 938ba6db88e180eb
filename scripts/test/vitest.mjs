import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { vitestSummary } from './summary.mjs';

/**
 * Runs vitest and answers what its report says.
 *
 * @param {string} [log] a file for what it says, in place of this terminal
 */
export async function runVitest(root, args, name = 'vitest', log) {
  const report = freshReport(root, `${name}.json`);
  const program = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const ok = await run(process.execPath, [program, 'run', ...reporters, ...args], root, log);
  return vitestSummary(read(report), ok, root);
}

/** @param {string} [log] a file for what it says, in place of this terminal */
export function run(program, args, cwd, log) {
  return new Promise((resolve) => {
    const out = log === undefined ? 'inherit' : openSync(log, 'w');
    const child = spawn(program, args, { cwd, stdio: ['inherit', out, out] });
    if (log !== undefined) closeSync(out);
    process.on('SIGTERM', () => child.kill('SIGTERM'));
    child.on('error', (error) => {
      console.error(`✗ ${program} can't be started: ${error.message}`);
      resolve(false);
    });
    child.on('exit', (code) => resolve(code === 0));
  });
}

export function freshReport(root, name) {
  const reports = join(root, '.cache', 'test');
  mkdirSync(reports, { recursive: true });
  const path = join(reports, name);
  rmSync(path, { force: true });
  return path;
}

export function read(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}
