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

// Suites that need a cluster are run by npm run test:kubernetes.
const vitest = (projects, name) =>
  runVitest(root, [...projects.map((project) => `--project=${project}`), ...vitestArgs], name);

if (args.length > 0) {
  const summaries = [];
  if (vitestArgs.length > 0) summaries.push(await vitest(['!cluster']));
  if (mark !== -1) summaries.push(await runPytest('pytest.xml', pytestArgs));
  process.exitCode = closeWith(summaries);
} else {
  // One after the other: some do their worst to this machine, and others promise milliseconds.
  const alone = await vitest(['alone'], 'alone');
  const aloneToo = await runPytest('pytest-alone.xml', ['-m', 'alone']);
  // They mostly wait: more at once than there are processors.
  const python = await runPytest('pytest.xml', ['-m', 'not alone', '-n', '4', '--dist', 'worksteal']);
  const others = await vitest(['!cluster', '!alone']);
  process.exitCode = closeWith([alone, aloneToo, python, others]);
}

async function runPytest(name, args) {
  const report = freshReport(root, name);
  const flags = ['-m', 'pytest', '-q', `--junitxml=${report}`, ...args];
  const ok = await run(workerPython(root), flags, join(root, 'apps', 'worker'));
  return pytestSummary(read(report), ok);
}
