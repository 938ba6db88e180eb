import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { vitestSummary } from './summary.mjs';

/** Runs vitest and answers what its report says. */
export async function runVitest(root, args, name = 'vitest') {
  const report = freshReport(root, `${name}.json`);
  const program = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const ok = await run(process.execPath, [program, 'run', ...reporters, ...args], root);
  return vitestSummary(read(report), ok, root);
}

export function run(program, args, cwd) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd, stdio: 'inherit' });
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
