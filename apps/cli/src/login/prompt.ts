import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { EXIT } from '../failure.js';

export function hasTerminal(): boolean {
  return process.stdin.isTTY && process.stderr.isTTY;
}

/** Reads a line of the terminal that isn't shown, neither while it is typed nor after. */
export async function askHidden(question: string): Promise<string> {
  const answer = await ask(question, new Writable({ write: (_chunk, _encoding, done) => done() }));
  process.stderr.write('\n');
  return answer;
}

export async function confirm(question: string): Promise<boolean> {
  return /^y(es)?$/i.test((await ask(`${question} [y/N] `, process.stderr)).trim());
}

/** Waits as long as the user does; Ctrl-C and Ctrl-D end it. */
async function ask(question: string, echo: NodeJS.WritableStream): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: echo, terminal: true });
  const leave = () => {
    process.stderr.write('\n');
    process.exit(EXIT.interrupted);
  };
  lines.once('SIGINT', leave).once('close', leave);
  // Not before the terminal has stopped showing what is typed.
  if (echo !== process.stderr) process.stderr.write(question);
  const answer = await lines.question(echo === process.stderr ? question : '');
  lines.off('close', leave).close();
  return answer;
}
