// Everything that is checked without running the program; all checks run, then the faulty ones are named.
//   npm run check               or one or more of them: npm run check -- types lint
//   npm run check -- --staged   of what is about to be committed, what takes a second; .githooks/pre-commit runs it
//   npm run format              writes what the two formatters want
import { join, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { attempt, say } from './setup/progress.mjs';
import { workerPython } from './setup/worker-python.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const node = (...path) => [process.execPath, join(root, 'node_modules', ...path)];
const ruff = [workerPython(root), '-m', 'ruff'];
const worker = join(root, 'apps', 'worker');
const python = [worker, join(root, 'examples'), join(root, 'test', 'clients')];
const prettier = [...node('prettier', 'bin', 'prettier.cjs'), '--log-level', 'warn'];
const oxlint = node('oxlint', 'bin', 'oxlint');
// Prettier would look all through what it ignores, even while base images are made there.
const everything = ['.', '!.cache'];
const configured = ['--config', join(worker, 'pyproject.toml')];

const CHECKS = {
  format: [...prettier, '--check', ...everything],
  lint: [...oxlint, '--type-aware', '--deny-warnings'],
  types: [...node('typescript', 'bin', 'tsc'), '--noEmit'],
  imports: [
    ...node('dependency-cruiser', 'bin', 'dependency-cruiser.mjs'),
    'apps',
    'libs',
    'test',
    '--output-type',
    'err',
  ],
  'dead code': [...node('knip', 'bin', 'knip.js')],
  'python lint': [...ruff, 'check', ...configured, ...python],
  'python format': [...ruff, 'format', '--check', ...configured, ...python],
  'python types': [...node('pyright', 'index.js'), '--project', worker],
  openapi: [process.execPath, join(root, 'dist', 'apps', 'manager', 'src', 'openapi.js'), '--check'],
  'openapi by redocly': [...node('@redocly', 'cli', 'bin', 'cli.js'), 'lint', 'openapi.json'],
  'openapi by spectral': [
    ...node('@stoplight', 'spectral-cli', 'dist', 'index.js'),
    'lint',
    '--fail-severity=warn',
    'openapi.json',
  ],
};

const FORMATTERS = {
  prettier: [...prettier, '--write', ...everything],
  ruff: [...ruff, 'format', ...configured, ...python],
};

const args = process.argv.slice(2);
const commands = args.includes('--format') ? FORMATTERS : args.includes('--staged') ? await staged() : chosen(args);
const faulty = [];
for (const [name, [program, ...rest]] of Object.entries(commands)) {
  const began = performance.now();
  const { ok, output } = await attempt(program, rest, { cwd: root });
  say(`${ok ? '✓' : '✗'} ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  if (ok) continue;
  say(output.trimEnd());
  faulty.push(name);
}
if (faulty.length > 0) {
  say(`\n✗ ${faulty.join(', ')}`);
  process.exitCode = 1;
}

async function staged() {
  const { output } = await attempt('git', ['diff', '--cached', '--name-only', '--diff-filter=ACMR', '-z'], {
    cwd: root,
  });
  const names = output.split('\0').filter((name) => name !== '');
  const scripts = names.filter((name) => /\.(ts|mjs|cjs)$/.test(name));
  const pythons = names.filter((name) => name.endsWith('.py'));
  const on = (files, checks) => (files.length > 0 ? checks : {});
  return {
    ...on(names, { format: [...prettier, '--check', '--ignore-unknown', ...names] }),
    ...on(scripts, { lint: [...oxlint, '--deny-warnings', ...scripts] }),
    ...on(pythons, {
      'python lint': [...ruff, 'check', ...configured, ...pythons],
      'python format': [...ruff, 'format', '--check', ...configured, ...pythons],
    }),
  };
}

function chosen(names) {
  if (names.length === 0) return CHECKS;
  const known = Object.entries(CHECKS).filter(([name]) => names.includes(name));
  if (known.length === names.length) return Object.fromEntries(known);
  say(`Known checks: ${Object.keys(CHECKS).join(', ')}`);
  process.exit(2);
}
