// Runs every test of both languages and sums them up:
//   npm test                                   all that can run here
//   npm test -- libs/database -t 'adopts'      arguments for vitest; pytest is left out
//   npm test -- --pytest -k loop               arguments for pytest; vitest is left out
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { factsOf, pytestSummary, vitestSummary } from './test/summary.mjs';
import { say } from './setup/progress.mjs';
import { workerPython } from './setup/worker-python.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const reports = join(root, '.cache', 'test');
const args = process.argv.slice(2);
const mark = args.indexOf('--pytest');
const vitestArgs = mark === -1 ? args : args.slice(0, mark);
const pytestArgs = mark === -1 ? [] : args.slice(mark + 1);

const summaries = [];
if (vitestArgs.length > 0 || mark === -1) summaries.push(await runVitest());
if (mark !== -1 || vitestArgs.length === 0) summaries.push(await runPytest());

const total = (key) => summaries.reduce((sum, summary) => sum + summary[key], 0);
const [passed, failed, skipped] = [total('passed'), total('failed'), total('skipped')];
const reasons = summaries.flatMap(({ reasons }) => reasons);
if (reasons.length > 0) {
  say('\nSkipped:');
  for (const reason of reasons) say(`  - ${reason}`);
  for (const fact of factsOf()) say(`  (${fact})`);
}
if (passed + failed === 0) say('\nNo test ran: that counts as a failure.');
say(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 || passed === 0 || summaries.some(({ ok }) => !ok) ? 1 : 0;

async function runVitest() {
  const report = freshReport('vitest.json');
  const program = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const ok = await run(process.execPath, [program, 'run', ...reporters, ...vitestArgs], root);
  return vitestSummary(read(report), ok, root);
}

async function runPytest() {
  const report = freshReport('pytest.xml');
  const flags = ['-m', 'pytest', '-q', `--junitxml=${report}`, ...pytestArgs];
  const ok = await run(workerPython(root), flags, join(root, 'apps', 'worker'));
  return pytestSummary(read(report), ok);
}

function run(program, programArgs, cwd) {
  return new Promise((resolve) => {
    const child = spawn(program, programArgs, { cwd, stdio: 'inherit' });
    process.on('SIGTERM', () => child.kill('SIGTERM'));
    child.on('error', (error) => {
      console.error(`✗ ${program} can't be started: ${error.message}`);
      resolve(false);
    });
    child.on('exit', (code) => resolve(code === 0));
  });
}

function freshReport(name) {
  mkdirSync(reports, { recursive: true });
  const path = join(reports, name);
  rmSync(path, { force: true });
  return path;
}

function read(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}
