// Runs every test of both languages and sums them up:
//   npm test                                   all that can run here
//   npm test -- libs/database -t 'adopts'      arguments for vitest; pytest is left out
//   npm test -- --pytest -k loop               arguments for pytest; vitest is left out
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { closeWith, pytestSummary } from './test/summary.mjs';
import { freshReport, read, run, runVitest } from './test/vitest.mjs';
import { workerPython } from './setup/worker-python.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const mark = args.indexOf('--pytest');
const vitestArgs = mark === -1 ? args : args.slice(0, mark);
const pytestArgs = mark === -1 ? [] : args.slice(mark + 1);

const summaries = [];
// Suites that need a cluster are run by npm run test:kubernetes.
if (vitestArgs.length > 0 || mark === -1) summaries.push(await runVitest(root, ['--project=!cluster', ...vitestArgs]));
if (mark !== -1 || vitestArgs.length === 0) summaries.push(await runPytest());
process.exitCode = closeWith(summaries);

async function runPytest() {
  const report = freshReport(root, 'pytest.xml');
  const flags = ['-m', 'pytest', '-q', `--junitxml=${report}`, ...pytestArgs];
  const ok = await run(workerPython(root), flags, join(root, 'apps', 'worker'));
  return pytestSummary(read(report), ok);
}
