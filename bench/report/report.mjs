import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const RESULTS = join(dirname(dirname(fileURLToPath(import.meta.url))), 'results');
const HEAD = ['figure', 'ours', 'reference', 'ratio (half of all pairs)', 'difference', 'target', 'met'];

/** Written as Markdown, so that it can go into a document as it is. */
export function printTable(rows) {
  const lines = [HEAD, ...rows.map(cellsOf)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((cells) => cells[column].length)));
  const line = (cells) => `| ${cells.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  const [head, ...rest] = lines;
  const rule = line(widths.map((width) => '-'.repeat(width)));
  console.log(`\n${[line(head), rule, ...rest.map(line)].join('\n')}`);
}

/** `results/<date>-<set>.json`; the same set of figures on the same day replaces the one before. */
export async function writeResults(set, results) {
  const name = `${new Date().toISOString().slice(0, 10)}-${set}.json`;
  await mkdir(RESULTS, { recursive: true });
  await writeFile(join(RESULTS, name), `${asText({ at: new Date().toISOString(), ...results })}\n`);
  return join('bench', 'results', name);
}

/** Readable, with each pair and each row of numbers on a line of its own. */
function asText(results) {
  return JSON.stringify(results, null, 1).replaceAll(/[[{][^[\]{}]*[\]}]/g, (inner) =>
    inner.replaceAll(/\s*\n\s*/g, ' '),
  );
}

function cellsOf({ figure, unit, ours, against, reference, ratio, difference, target, met }) {
  return [
    figure,
    amount(ours, unit),
    reference === undefined ? '' : `${amount(reference, unit)} (${against})`,
    ratio === undefined ? '' : between(ratio, (value) => value.toFixed(2)),
    difference === undefined ? '' : `${between(difference, signed)} ${unit}`,
    target ?? '',
    met === undefined ? '' : met ? 'yes' : 'NO',
  ];
}

function between({ median, low, high }, text) {
  return `${text(median)} (${text(low)} … ${text(high)})`;
}

function signed(value) {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)}`;
}

function amount(value, unit) {
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : 2;
  return `${value.toFixed(digits)} ${unit}`;
}
