import { readFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { type Command, InvalidArgumentError } from 'commander';
import { command, REF } from '../command.js';
import { answered, connect } from '../connection.js';
import { describeFault } from '../deploy/python-fault.js';
import { integer } from '../deploy/settings.js';
import { Failure } from '../failure.js';
import { type Output, printable } from '../output.js';
import { utf8 } from '../utf8.js';

/** As long as a manager lets a call take, MAX_TIMEOUT_MS unless configured, and some more to wait for its turn. */
const WAIT_MS = 16 * 60_000;

interface InvokeOptions {
  readonly file?: string;
  readonly revision?: number;
  readonly tag?: string;
  readonly sticky?: string;
  readonly waitMs: number;
  readonly later?: true;
}

export function addInvoke(program: Command): void {
  const made = command(program, 'invoke', 'call a function')
    .argument(...REF)
    .argument('[payload]', 'what its handler gets; - reads it from stdin; empty if left out')
    .option('-f, --file <path>', 'reads the payload from a file')
    .option('--revision <n>', 'the revision that shall answer, of those that the calls are divided among', integer)
    .option('--tag <tag>', 'the same by its tag')
    .option('--sticky <key>', 'calls with the same key have the same revision', headerText)
    .option('--later', 'has it run later, and prints the id that it can be asked for by')
    .option('--wait-ms <n>', 'how long to wait for the answer', integer, WAIT_MS)
    .action(async (ref: string, payload: string | undefined, options: InvokeOptions) => {
      await call(ref, { payload: await payloadOf(payload, options.file) }, options, made.output());
    });
}

async function call(ref: string, body: { payload: string }, options: InvokeOptions, output: Output): Promise<void> {
  const { revision, tag, sticky, waitMs, later } = options;
  const { client, api } = await connect({ ms: waitMs });
  const query = { ...(revision !== undefined && { revision }), ...(tag !== undefined && { tag }) };
  const headers = sticky === undefined ? {} : { 'X-Faas-Sticky': sticky };
  if (later) {
    const { data } = await answered(api.invokeLater({ client, path: { id: ref }, query, headers, body }));
    output.show(data, () => data.id);
    return;
  }
  try {
    const { data } = await answered(api.executeFunction({ client, path: { id: ref }, query, headers, body }));
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

function headerText(text: string): string {
  if (/^[\x20-\x7e]+$/.test(text)) return text;
  throw new InvalidArgumentError('It may have ASCII characters alone.');
}

/** `-`: stdin. */
export async function payloadOf(payload: string | undefined, file: string | undefined): Promise<string> {
  if (payload !== undefined && file !== undefined) throw new Failure('usage', 'Give a payload or --file, not both.');
  if (file === undefined && payload !== '-') return payload ?? '';
  return utf8(file === undefined ? await buffer(process.stdin) : read(file), 'The payload');
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Failure('not_found', `${path} can't be read: ${(error as Error).message}`);
  }
}
