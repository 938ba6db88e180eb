// Measures this machine, each figure against a reference in the same run:
//   npm run bench                            everything
//   npm run bench -- overhead throughput     some of it
//   npm run bench -- --engine process        where the functions run: docker or process
//   npm run bench -- throughput --profile    with the manager's CPU profile beside the results
//   npm run bench -- --check                 a target that isn't met is a failure
import { parseArgs } from 'node:util';
import { FIGURES } from './figures/figures.mjs';
import { describeLoad, describeMachine } from './report/machine.mjs';
import { printTable, writeResults } from './report/report.mjs';
import { Stage } from './stage/stage.mjs';
import { Undo } from './stage/undo.mjs';

const LONGEST_MS = 10 * 60_000;

const { names, options } = readArguments();
const undo = new Undo();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    console.log('\n… ending everything that was started');
    void undo.all().then(() => process.exit(130));
  });
}
const watchdog = setTimeout(() => {
  console.error(`✗ It took longer than ${LONGEST_MS / 60_000} minutes.`);
  void undo.all().then(() => process.exit(1));
}, LONGEST_MS);

try {
  await run();
} catch (error) {
  // What fails because it is being ended needs no word.
  if (!undo.begun) {
    console.error(`\n✗ ${error.stack ?? error}`);
    process.exitCode = 1;
  }
}
clearTimeout(watchdog);
await undo.all();

async function run() {
  const stage = await Stage.open(undo, options);
  const machine = await describeMachine(stage);
  const load = { before: describeLoad() };
  const began = performance.now();
  console.log(`\n${machine.cpus} × ${machine.cpuModel}, ${machine.memoryGiB} GiB, functions on ${machine.engine}`);
  const figures = [];
  for (const name of names) {
    console.log(`→ ${name} …`);
    figures.push({ name, ...(await FIGURES[name](stage)) });
  }
  load.after = describeLoad();
  const rows = figures.flatMap((figure) => figure.rows);
  printTable(rows);
  const seconds = Math.round((performance.now() - began) / 1000);
  const file = await writeResults(names.length === Object.keys(FIGURES).length ? ['all'] : names, {
    machine,
    load,
    seconds,
    discarded: stage.discarded,
    figures,
  });
  console.log(`\n${seconds} s, load average ${load.before[0]} before and ${load.after[0]} after; written to ${file}`);
  const missed = rows.filter(({ met }) => met === false).map(({ figure }) => figure);
  if (missed.length === 0) return;
  console.log(`✗ Missed: ${missed.join('; ')}`);
  if (options.check) process.exitCode = 1;
}

function readArguments() {
  const known = Object.keys(FIGURES);
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        engine: { type: 'string', default: '' },
        profile: { type: 'boolean', default: false },
        check: { type: 'boolean', default: false },
      },
    });
    const unknown = positionals.find((name) => !known.includes(name));
    if (unknown !== undefined) throw new Error(`There is no figure "${unknown}": ${known.join(', ')}.`);
    if (!['', 'docker', 'process'].includes(values.engine)) throw new Error('--engine is docker or process.');
    return { names: known.filter((name) => positionals.length === 0 || positionals.includes(name)), options: values };
  } catch (error) {
    console.error(`✗ ${error.message}`);
    process.exit(2);
  }
}
