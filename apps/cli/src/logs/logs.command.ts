import { type Command, InvalidArgumentError, Option } from 'commander';
import type { GetFunctionLogsData } from '../client/index.js';
import { command, REF } from '../command.js';
import { integer } from '../deploy/settings.js';
import { readLogs } from './read-logs.js';

type Query = NonNullable<GetFunctionLogsData['query']>;

interface LogOptions {
  readonly follow?: boolean;
  readonly tail?: number;
  readonly since?: string;
  readonly revision?: number;
  readonly requestId?: string;
  readonly source?: Query['source'];
}

const SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 };

export function addLogs(program: Command): void {
  const made = command(program, 'logs', 'show what a function and its workers print', 'each line as JSON on stdout')
    .argument(...REF)
    .option('-f, --follow', 'goes on with new lines until the function is removed')
    .option('-n, --tail <n>', 'at most so many of the newest lines; 100 if left out', integer)
    .option('--since <when>', 'none older than this: 90s, 10m, 2h, 1d, or an RFC 3339 time', (text) => sinceOf(text))
    .option('--revision <n>', 'those of one revision', integer)
    .option('--request-id <id>', 'those of one call')
    .addOption(new Option('--source <source>', 'those of one source').choices(['handler', 'worker']))
    .action(async (ref: string, options: LogOptions) => {
      await readLogs(ref, queryOf(options), options.follow === true, made.output());
    });
}

/** Those that were given. */
function queryOf({ tail, since, revision, requestId, source }: LogOptions): Query {
  const all = { tail, since, revision, request_id: requestId, source };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

export function sinceOf(text: string, now = Date.now()): string {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (unit !== undefined)
    return new Date(now - Number(count) * SECONDS[unit as keyof typeof SECONDS] * 1_000).toISOString();
  if (/^\d{4}-\d\d-\d\d[Tt]/.test(text)) return text;
  throw new InvalidArgumentError('It is a duration, as 10m, or a time, as 2026-01-31T12:00:00Z.');
}
