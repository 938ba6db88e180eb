import { buffer } from 'node:stream/consumers';
import { Argument, type Command } from 'commander';
import type { SecretDto } from '../client/index.js';
import { command, nameIn } from '../command.js';
import { answered, connect, SOON } from '../connection.js';
import { Failure } from '../failure.js';
import { askHidden, hasTerminal } from '../login/prompt.js';
import type { Output } from '../output.js';
import { utf8 } from '../utf8.js';

const ACTIONS = ['set', 'remove'] as const;
const HEAD = ['SECRET', 'UPDATED', 'USED BY'];

/** Values come from stdin or the terminal alone: other users of the machine can read arguments. */
export function addSecrets(program: Command): void {
  const made = command(program, 'secrets', 'list the secrets, set one, or remove one')
    .addArgument(new Argument('[action]', 'set or remove; the list if left out').choices(ACTIONS))
    .argument('[name]', "the secret's name", nameIn)
    .addHelpText(
      'after',
      '\nset reads the value from stdin, or asks for it in a terminal. One line end at its end is cut off.',
    )
    .action(async (action: (typeof ACTIONS)[number] | undefined, name: string | undefined) => {
      const output = made.output();
      if (action === undefined) return list(output);
      if (name === undefined) throw new Failure('usage', `Say which secret: faas secrets ${action} NAME.`);
      return action === 'set' ? set(name, output) : remove(name, output);
    });
}

async function list(output: Output): Promise<void> {
  const { client, api } = await connect(SOON);
  const { data } = await answered(api.listSecrets({ client }));
  output.show(data, () => output.table(HEAD, data.map(rowOf)));
}

async function set(name: string, output: Output): Promise<void> {
  const value = await readValue(name);
  const { client, api } = await connect(SOON);
  const { data, response } = await answered(api.putSecret({ client, path: { name }, body: { value } }));
  const what = response.status === 201 ? 'is made' : 'is set';
  output.show(data, () => `${output.paint('green', '✓')} ${name} ${what}`);
}

async function remove(name: string, output: Output): Promise<void> {
  const { client, api } = await connect(SOON);
  await answered(api.removeSecret({ client, path: { name } }));
  output.show({ name, removed: true }, () => `${output.paint('green', '✓')} ${name} is removed`);
}

/** One line end that a shell has put at the end is no part of it. */
async function readValue(name: string): Promise<string> {
  const value = hasTerminal() ? await askHidden(`Value of ${name}: `) : utf8(await buffer(process.stdin), 'The value');
  const read = value.replace(/\r?\n$/, '');
  if (read === '') throw new Failure('usage', 'The value is empty: write it to stdin, or type it in a terminal.');
  return read;
}

function rowOf({ name, updated_at: updatedAt, functions }: SecretDto): string[] {
  return [name, updatedAt, functions.map((one) => one.name).join(', ')];
}
