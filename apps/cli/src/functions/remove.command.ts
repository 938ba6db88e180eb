import type { Command } from 'commander';
import { command, REF } from '../command.js';
import { answered, connect, type Connection } from '../connection.js';
import { Failure } from '../failure.js';
import { confirm, hasTerminal } from '../login/prompt.js';

/** Calls in flight may finish first, ten seconds at most. */
const BOUNDS = { ms: 120_000 };

export function addRemove(program: Command): void {
  const made = command(program, 'remove', 'remove a function, its code and its revisions')
    .alias('rm')
    .argument(...REF)
    .option('-y, --yes', "don't ask")
    .action(async (ref: string, { yes = false }: { yes?: boolean }) => {
      const connection = await connect(BOUNDS);
      if (!yes) await ask(ref, connection);
      const { client, api } = connection;
      const { response } = await answered(api.removeFunction({ client, path: { id: ref } }));
      // 202: it is accepted, and goes on by itself once the engine answers.
      const isGone = response.status === 204;
      const text = isGone ? `${ref} is removed` : `${ref} takes no more calls and will be removed`;
      const output = made.output();
      output.show({ ref, removed: isGone }, () => `${output.paint('green', '✓')} ${text}`);
    });
}

async function ask(ref: string, { client, api, url }: Connection): Promise<void> {
  if (!hasTerminal()) throw new Failure('usage', 'Nobody can be asked here: say --yes to remove it.');
  // So that nobody confirms what can't be.
  await answered(api.getFunction({ client, path: { id: ref } }));
  if (!(await confirm(`Remove ${ref} from ${url}?`))) throw new Failure('usage', `${ref} stays.`);
}
