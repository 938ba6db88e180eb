import type { IncomingMessage } from 'node:http';
import { InvalidUpdate } from '../functions/errors.js';
import { readSmallJson } from '../functions/update.js';

const MOST = 999_999_999;

/** Reads what to go back to. */
export async function readRollback(request: IncomingMessage): Promise<{ revision: number | undefined }> {
  const { revision, ...others } = await readSmallJson(request, '{"revision": 3}');
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) {
    const shown = unknown.slice(0, 64);
    throw new InvalidUpdate(shown, `There is no member ${JSON.stringify(shown)}. Known: revision.`);
  }
  if (revision === undefined || revision === null) return { revision: undefined };
  if (!(Number.isInteger(revision) && (revision as number) >= 1 && (revision as number) <= MOST)) {
    throw new InvalidUpdate('revision', 'revision must be the number of a revision.');
  }
  return { revision: revision as number };
}
