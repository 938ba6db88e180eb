import { type Command, Option } from 'commander';
import type { FunctionDto, FunctionStatus } from '../client/index.js';
import { command } from '../command.js';
import { answered, connect, type Connection, SOON } from '../connection.js';

const PAGE = 500;
const STATUSES: readonly FunctionStatus[] = ['creating', 'running', 'idle', 'stopped', 'error', 'deleting'];

interface ListOptions {
  readonly label?: string[];
  readonly status?: FunctionStatus;
}

export function addList(program: Command): void {
  const made = command(program, 'list', 'list functions')
    .alias('ls')
    .option('-l, --label <key[=value]>', 'those with this label; may be repeated', (one, former?: string[]) => [
      ...(former ?? []),
      one,
    ])
    .addOption(new Option('--status <status>', 'those of this status').choices(STATUSES))
    .action(async ({ label, status }: ListOptions) => {
      const filters = { ...(label && { label }), ...(status && { status }) };
      const found = await allFunctions(await connect(SOON), filters);
      const output = made.output();
      const rows = found.map(({ name, id, status, enabled, labels, created_at }) => [
        name,
        name === id ? '' : id,
        enabled ? status : `${status}, disabled`,
        Object.entries(labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(' '),
        created_at,
      ]);
      output.show(found, () => output.table(['NAME', 'ID', 'STATUS', 'LABELS', 'CREATED'], rows));
    });
}

/** Page by page, so that no answer grows without bounds. */
export async function allFunctions({ client, api }: Connection, query: ListOptions = {}): Promise<FunctionDto[]> {
  const found: FunctionDto[] = [];
  let after: string | undefined;
  do {
    const page = { ...query, limit: PAGE, ...(after !== undefined && { after }) };
    const { data, response } = await answered(api.listFunctions({ client, query: page }));
    found.push(...data);
    after = nextOf(response.headers.get('link'));
  } while (after !== undefined);
  return found;
}

/** `after` of a header such as `</functions?limit=2&after=…>; rel="next"`. */
export function nextOf(link: string | null): string | undefined {
  const path = /<([^>]*)>;\s*rel="next"/.exec(link ?? '')?.[1];
  return path === undefined ? undefined : (new URL(path, 'http://manager').searchParams.get('after') ?? undefined);
}
