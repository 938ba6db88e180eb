import { type Command, InvalidArgumentError } from 'commander';
import { command, REF } from '../command.js';
import { answered, connect } from '../connection.js';
import { withProgress } from '../deploy/progress.js';
import { integer } from '../deploy/settings.js';

/** Its workers may have to be started first. */
const WAIT_MS = 15 * 60_000;

export function addRollback(program: Command): void {
  const made = command(program, 'rollback', 'have a former revision take the calls over again')
    .argument(...REF)
    .argument('[revision]', 'its number; the last that had the calls if left out', positive)
    .option('--wait-ms <n>', 'how long to wait for it', integer, WAIT_MS)
    .action(async (ref: string, revision: number | undefined, { waitMs }: { waitMs: number }) => {
      const { client, api } = await connect({ ms: waitMs });
      const body = revision === undefined ? {} : { revision };
      const { data } = await withProgress(`Rolling ${ref} back`, () =>
        answered(api.rollBack({ client, path: { id: ref }, body })),
      );
      const output = made.output();
      output.show(data, () => `${output.paint('green', '✓')} ${ref}: revision ${data.revision} serves`);
    });
}

function positive(text: string): number {
  const number = integer(text);
  if (number > 0) return number;
  throw new InvalidArgumentError('Revisions are counted from 1.');
}
