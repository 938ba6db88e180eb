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

const wantsVitest = vitestArgs.length > 0 || mark === -1;
const wantsPytest = mark !== -1 || vitestArgs.length === 0;
const runs = [];
// Suites that need a cluster are run by npm run test:kubernetes.
if (wantsVitest) runs.push(runVitest(root, ['--project=!cluster', ...vitestArgs]));
// Beside the other: both wait more than they work. What it says comes after what the other says.
if (wantsPytest) runs.push(runPytest(wantsVitest));
process.exitCode = closeWith(await Promise.all(runs));

async function runPytest(isAside) {
  const report = freshReport(root, 'pytest.xml');
  const log = isAside ? freshReport(root, 'pytest.log') : undefined;
  const flags = ['-m', 'pytest', '-q', `--junitxml=${report}`, ...pytestArgs];
  const ok = await run(workerPython(root), flags, join(root, 'apps', 'worker'), log);
  if (log !== undefined) {
    await runs[0];
    console.log(`\nThe worker, tested with pytest:\n${read(log) ?? ''}`);
  }
  return pytestSummary(read(report), ok);
}
