import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { command } from '../command.js';
import { answered, checkedKey, connect, DEFAULT_URL, managerUrl, SOON } from '../connection.js';
import { type Credentials, credentialsPath, readCredentials, writeCredentials } from '../credentials.js';
import { Failure } from '../failure.js';
import { askHidden, hasTerminal } from './prompt.js';

export function addLogin(program: Command): void {
  const made = command(program, 'login', "store the manager's URL and your key, once they work")
    .argument('[url]', `where the manager is; ${DEFAULT_URL} if left out`)
    .option('--key-stdin', 'reads the key from stdin, not from the terminal')
    .action(async (given: string | undefined, options: { keyStdin?: boolean }) => {
      const url = managerUrl(given ?? process.env['FAAS_URL'] ?? storedUrl() ?? DEFAULT_URL);
      const key = await readKey(options.keyStdin === true);
      const credentials = key === '' ? { url } : { url, key };
      await check(credentials);
      writeCredentials(credentials);
      const output = made.output();
      const path = credentialsPath();
      const how = key === '' ? 'without a key' : 'with your key';
      output.show(
        { url, has_key: key !== '', path },
        () => `${output.paint('green', '✓')} ${url} answers ${how}; kept in ${path}`,
      );
    });
}

/** A damaged file is no reason not to write a new one. */
function storedUrl(): string | undefined {
  try {
    return readCredentials()?.url;
  } catch {
    return undefined;
  }
}

async function readKey(fromStdin: boolean): Promise<string> {
  const key = fromStdin ? await text(process.stdin) : hasTerminal() ? await askHidden('Key (empty for none): ') : '';
  return checkedKey(key.trim());
}

/** A key that may do nothing but call functions is refused the list, and yet is valid. */
async function check(credentials: Credentials): Promise<void> {
  const { client, api } = await connect(SOON, credentials);
  try {
    await answered(api.listFunctions({ client, query: { limit: 1 } }));
  } catch (error) {
    if (!(error instanceof Failure) || error.problem?.code !== 'forbidden') throw error;
  }
}
