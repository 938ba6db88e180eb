import { readFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import type { Command } from 'commander';
import { command } from '../command.js';
import { answered, connect } from '../connection.js';
import { describeFault } from '../deploy/python-fault.js';
import { integer } from '../deploy/settings.js';
import { Failure } from '../failure.js';
import { type Output, printable } from '../output.js';

/** As long as a manager lets a call take, MAX_TIMEOUT_MS unless configured, and some more to wait for its turn. */
const WAIT_MS = 16 * 60_000;

export function addInvoke(program: Command): void {
  const made = command(program, 'invoke', 'call a function')
    .argument('<ref>', "the function's name or id")
    .argument('[payload]', 'what its handler gets; - reads it from stdin; empty if left out')
    .option('-f, --file <path>', 'reads the payload from a file')
    .option('--wait-ms <n>', 'how long to wait for the answer', integer, WAIT_MS)
    .action(async (ref: string, payload: string | undefined, options: { file?: string; waitMs: number }) => {
      const body = { payload: await payloadOf(payload, options.file) };
      await call(ref, body, options.waitMs, made.output());
    });
}

async function call(ref: string, body: { payload: string }, ms: number, output: Output): Promise<void> {
  const { client, api } = await connect({ ms });
  try {
    const { data } = await answered(api.executeFunction({ client, path: { id: ref }, body }));
    const { result } = data;
    const text = typeof result === 'string' ? result : JSON.stringify(result, null, 2);
    output.show(data, () => (output.isTerminal ? printable(text) : text));
  } catch (error) {
    if (!(error instanceof Failure) || error.problem === undefined) throw error;
    describeFault(output, error.problem);
    if (error.kind !== 'function') throw error;
    const hint = `What it printed: faas logs ${ref} --request-id ${error.problem.request_id}`;
    throw new Failure(error.kind, error.message, error.problem, hint);
  }
}

async function payloadOf(payload: string | undefined, file: string | undefined): Promise<string> {
  if (payload !== undefined && file !== undefined) throw new Failure('usage', 'Give a payload or --file, not both.');
  if (file === undefined && payload !== '-') return payload ?? '';
  const bytes = file === undefined ? await buffer(process.stdin) : read(file);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Failure('usage', 'The payload is not UTF-8.', undefined, 'A payload is text: encode bytes, as base64.');
  }
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Failure('not_found', `${path} can't be read: ${(error as Error).message}`);
  }
}
