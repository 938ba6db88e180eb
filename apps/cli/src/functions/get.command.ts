import type { Command } from 'commander';
import type { FunctionDetailDto } from '../client/index.js';
import { command, REF } from '../command.js';
import { answered, connect, SOON } from '../connection.js';
import { SETTINGS } from '../deploy/settings.js';
import { type Output, printable } from '../output.js';

export function addGet(program: Command): void {
  const made = command(program, 'get', 'show a function and why it is in its state')
    .argument(...REF)
    .action(async (ref: string) => {
      const { client, api } = await connect(SOON);
      const { data } = await answered(api.getFunction({ client, path: { id: ref } }));
      const output = made.output();
      output.show(data, () => described(output, data));
    });
}

function described(output: Output, found: FunctionDetailDto): string {
  const { status, enabled, conditions, last_error, replicas, ready_replicas } = found;
  const colour = status === 'error' ? 'red' : 'green';
  const rows: [string, string][] = [
    ['name', found.name],
    ['id', found.id],
    ['status', output.paint(colour, status) + (enabled ? '' : ', disabled')],
    ['description', output.plain(found.description)],
    ['handler', found.function_name],
    ['labels', pairs(found.labels)],
    ['public', String(found.public)],
    ['replicas', `${ready_replicas} of ${replicas} answer`],
    ['created', found.created_at],
    ...SETTINGS.map(({ name }): [string, string] => [name, valueOf(found[name])]),
    ['invocation_defaults', pairs(found.invocation_defaults)],
    ['history', pairs(found.history)],
    ...conditions.map(({ type, message, since }): [string, string] => [
      type.toLowerCase(),
      `${output.plain(message)} (${since})`,
    ]),
  ];
  const fields = output.fields(rows);
  if (last_error === null) return fields;
  const { code, message, detail, at } = last_error;
  const fault = `${output.paint('red', 'last error')} (${at}, ${code}): ${printable(message)}`;
  return [fields, '', fault, ...(detail === null ? [] : [printable(detail)])].join('\n');
}

type Member = number | string | readonly string[] | { readonly file: string };

function valueOf(value: number | string | object | null): string {
  if (value === null) return '';
  return typeof value === 'object' ? pairs(value) : String(value);
}

function pairs(map: object): string {
  const members = Object.entries(map) as [string, Member][];
  return printable(members.map(([key, value]) => `${key}=${wordOf(value)}`).join(' '));
}

/** As its flag takes it. */
function wordOf(value: Member): string {
  if (typeof value !== 'object') return String(value);
  return 'file' in value ? `file:${value.file}` : value.join(',') || 'none';
}
