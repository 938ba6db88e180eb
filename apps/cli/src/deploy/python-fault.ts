import type { Problem } from '../client/index.js';
import { type Output, printable } from '../output.js';

const AROUND = 2;
/** Wherever workers keep the file. */
const UPLOADED = /(?<=File ")[^"\n]*\/function\/handler\.py(?=")/g;

/** A Python fault in terms of the user's own file: its traceback, what it printed, and the line at fault. */
export function describeFault(output: Output, problem: Problem, source?: { path: string; code: string }): void {
  const { traceback, line, stderr } = problem;
  if (typeof traceback === 'string') output.note(printable(`\n${tracebackOf(traceback, source?.path)}`));
  if (stderr !== undefined && stderr !== '') output.note(printable(`It wrote to stderr:\n${stderr}\n`));
  if (source === undefined || typeof line !== 'number') return;
  output.note(output.paintNote('bold', `${source.path}:${line}`));
  for (const { number, text } of excerptOf(source.code, line)) {
    const shown = printable(`${number === line ? '>' : ' '} ${number} | ${text}`);
    output.note(number === line ? output.paintNote('red', shown) : output.paintNote('dim', shown));
  }
  output.note('');
}

export function tracebackOf(traceback: string, path = 'handler.py'): string {
  return traceback.replaceAll(UPLOADED, () => path);
}

/** The line and those around it, with numbers of one width. */
export function excerptOf(code: string, line: number): { number: number; text: string }[] {
  const lines = code.split(/\r\n|\r|\n/);
  const first = Math.max(1, line - AROUND);
  return lines.slice(first - 1, line + AROUND).map((text, index) => ({ number: first + index, text }));
}
