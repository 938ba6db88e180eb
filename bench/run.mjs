// Measures this machine, each figure against a reference in the same run:
//   npm run bench                            everything
//   npm run bench -- overhead throughput     some of it
//   npm run bench -- --engine process        where the functions run: docker or process
//   npm run bench -- throughput --profile    with the manager's CPU profile beside the results
//   npm run bench -- --share 0.1             a tenth of the counts and times, for a quick look
//   npm run bench -- history --rows 10000000  over a history of so many calls (a million)
//   npm run bench -- updates --share 5 --calls 100000  a hundred updates and rollbacks, under so many calls
//   npm run bench -- --check                 a target that isn't met is a failure
//   npm run bench -- former --former ../old  against another checkout whose program is built (--former-image: its worker)
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { FIGURES, ON_REQUEST } from './figures/figures.mjs';
import { describeLoad, describeMachine } from './report/machine.mjs';
import { printTable, writeResults } from './report/report.mjs';
import { Stage } from './stage/stage.mjs';
import { Undo } from './stage/undo.mjs';

const LONGEST_MS = 45 * 60_000;

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
process.exit();

async function run() {
  const site = await Stage.prepare(undo, options);
  const machine = await describeMachine(site);
  const load = { before: describeLoad() };
  const began = performance.now();
  console.log(`\n${machine.cpus} × ${machine.cpuModel}, ${machine.memoryGiB} GiB, functions on ${machine.engine}`);
  const figures = [];
  for (const name of names) figures.push(await measure(site, name));
  load.after = describeLoad();
  const rows = figures.flatMap((figure) => figure.rows);
  printTable(rows);
  const seconds = secondsSince(began);
  const file = await writeResults(setName(), {
    machine,
    load,
    share: options.share,
    seconds,
    figures,
  });
  console.log(`\n${seconds} s, load average ${load.before[0]} before and ${load.after[0]} after; written to ${file}`);
  conclude(figures, rows);
}

/** A quick look doesn't replace the results of a whole one. */
function setName() {
  const figures = names.length === Object.keys(FIGURES).length - ON_REQUEST.length ? 'all' : names.join('-');
  return options.share === 1 ? figures : `${figures}-share-${options.share}`;
}

/** What a figure started is ended after it. One that fails is told of, and the others are measured all the same. */
async function measure({ folder, engine }, name) {
  console.log(`→ ${name} …`);
  const scope = new Undo();
  const end = () => scope.all();
  await undo.add(end);
  const stage = new Stage(scope, folder, engine, options);
  const load = describeLoad();
  const began = performance.now();
  const about = () => ({ name, seconds: secondsSince(began), load, discarded: stage.discarded });
  try {
    const figure = await FIGURES[name](stage);
    console.log(`✓ ${name} (${secondsSince(began)} s)`);
    return { ...about(), ...figure };
  } catch (error) {
    if (undo.begun) throw error;
    console.error(`✗ ${name}: ${error.stack ?? error}`);
    return { ...about(), failed: error.message, rows: [] };
  } finally {
    await undo.now(end);
  }
}

function conclude(figures, rows) {
  const missed = rows.filter(({ met }) => met === false).map(({ figure }) => figure);
  if (missed.length > 0) console.log(`✗ Missed: ${missed.join('; ')}`);
  if (missed.length > 0 && options.check) process.exitCode = 1;
  const failed = figures.filter((figure) => figure.failed !== undefined).map(({ name }) => name);
  if (failed.length === 0) return;
  console.log(`✗ Not measured: ${failed.join('; ')}`);
  process.exitCode = 1;
}

function secondsSince(began) {
  return Math.round((performance.now() - began) / 1000);
}

function readArguments() {
  const known = Object.keys(FIGURES);
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        engine: { type: 'string', default: '' },
        profile: { type: 'boolean', default: false },
        share: { type: 'string', default: '1' },
        rows: { type: 'string', default: '1000000' },
        calls: { type: 'string', default: '0' },
        check: { type: 'boolean', default: false },
        former: { type: 'string', default: '' },
        'former-image': { type: 'string', default: '' },
      },
    });
    const unknown = positionals.find((name) => !known.includes(name));
    if (unknown !== undefined) throw new Error(`There is no figure "${unknown}": ${known.join(', ')}.`);
    if (!['', 'docker', 'process'].includes(values.engine)) throw new Error('--engine is docker or process.');
    const share = Number(values.share);
    if (!(share > 0 && share <= 10)) throw new Error('--share is a number above 0, up to 10.');
    const calls = Number(values.calls);
    if (!(calls >= 0 && calls <= 1_000_000)) throw new Error('--calls is a number from 0 to 1000000.');
    const usual = known.filter((name) => !ON_REQUEST.includes(name));
    const names = positionals.length === 0 ? usual : known.filter((name) => positionals.includes(name));
    const former = values.former === '' ? '' : resolve(values.former);
    return { names, options: { ...values, share, calls, former } };
  } catch (error) {
    console.error(`✗ ${error.message}`);
    process.exit(2);
  }
}
