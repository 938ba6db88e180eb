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
    ['replicas', `${ready_replicas} of ${replicas} answer`],
    ['created', found.created_at],
    ...SETTINGS.map(({ name }): [string, string] => [name, valueOf(found[name])]),
    ...conditions.map(({ type, message, since }): [string, string] => [
      type.toLowerCase(),
      `${output.plain(message)} (${since})`,
    ]),
  ];
  const width = Math.max(...rows.map(([title]) => title.length));
  const lines = rows.filter(([, text]) => text !== '').map(([title, text]) => `${title.padEnd(width)}  ${text}`);
  if (last_error === null) return lines.join('\n');
  const { code, message, detail, at } = last_error;
  const fault = `${output.paint('red', 'last error')} (${at}, ${code}): ${printable(message)}`;
  return [...lines, '', fault, ...(detail === null ? [] : [printable(detail)])].join('\n');
}

type Named = Readonly<Record<string, string | { readonly file: string }>>;

function valueOf(value: number | string | Named | null): string {
  if (value === null) return '';
  return typeof value === 'object' ? pairs(value) : String(value);
}

function pairs(map: Named): string {
  return printable(
    Object.entries(map)
      .map(([key, value]) => `${key}=${typeof value === 'string' ? value : `file:${value.file}`}`)
      .join(' '),
  );
}
