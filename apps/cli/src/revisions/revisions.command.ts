import type { Command } from 'commander';
import type { RevisionDto } from '../client/index.js';
import { command, REF } from '../command.js';
import { answered, connect, SOON } from '../connection.js';

const HEAD = ['REVISION', 'STATUS', 'CREATED', 'BY', 'MESSAGE'];

export function addRevisions(program: Command): void {
  const made = command(program, 'revisions', 'list the revisions of a function, the newest first')
    .argument(...REF)
    .action(async (ref: string) => {
      const { client, api } = await connect(SOON);
      const { data } = await answered(api.listRevisions({ client, path: { id: ref } }));
      const output = made.output();
      output.show(data, () => output.table(HEAD, data.map(rowOf)));
    });
}

function rowOf({ revision, status, serving, created_at, created_by, message, error }: RevisionDto): string[] {
  const why = [message, error?.message ?? ''].filter((text) => text !== '').join(': ');
  return [String(revision), serving ? 'serving' : status, created_at, created_by ?? '', why];
}
