import { InvalidRequest } from '#libs/errors/errors.js';
import { hasDay } from '#libs/json/time.js';
import { nextTime, timeOf } from '#libs/orchestrator/replica-log.js';
import { type LogSource, SOURCES } from './dto/log-record.dto.js';

export const DEFAULT_TAIL = 100;
export const MOST_TAIL = 10_000;

const SWITCH = new Map([
  ['true', true],
  ['false', false],
]);

export interface LogQuery {
  readonly tail: number;
  readonly since: string | undefined;
  readonly follow: boolean;
  readonly revision: number | undefined;
  readonly replica: string | undefined;
  readonly requestId: string | undefined;
  readonly source: LogSource | undefined;
}

/** What a client of server-sent events says beside the query. */
export interface EventClient {
  readonly isEventStream: boolean;
  readonly lastEventId: string | undefined;
}

/**
 * Events are followed unless the query says otherwise: whoever reads them reconnects at their end. One that reconnects
 * gets what came after the event that it names.
 */
export function logQueryOf(query: Record<string, unknown>, client: EventClient): LogQuery {
  const since = read(query, 'since', 'a time such as 2026-11-23T12:00:00Z (RFC 3339)', (text) =>
    hasDay(text) ? timeOf(text) : undefined,
  );
  const follow = read(query, 'follow', 'true or false', (text) => SWITCH.get(text));
  const resumed = client.isEventStream ? timeOf(client.lastEventId ?? '') : undefined;
  const from = resumed && nextTime(resumed);
  const tail = wholeNumber(query, 'tail', 0, MOST_TAIL);
  return {
    // The URL of one that reconnects says what it wanted at first.
    tail: from === undefined ? (tail ?? DEFAULT_TAIL) : MOST_TAIL,
    since: from !== undefined && from > (since ?? '') ? from : since,
    follow: follow ?? client.isEventStream,
    revision: wholeNumber(query, 'revision', 1, 2 ** 31 - 1),
    replica: read(query, 'replica', 'the id of a replica, as a record has it', (text) =>
      /^[\w./-]{1,128}$/.test(text) ? text : undefined,
    ),
    requestId: read(query, 'request_id', 'up to 64 letters, digits, ".", "_" or "-"', (text) =>
      /^[\w.-]{1,64}$/.test(text) ? text : undefined,
    ),
    source: read(query, 'source', SOURCES.join(' or '), (text) => SOURCES.find((source) => source === text)),
  };
}

function wholeNumber(query: Record<string, unknown>, name: string, least: number, most: number): number | undefined {
  return read(query, name, `a whole number from ${least} to ${most}`, (text) => {
    const number = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
    return number >= least && number <= most ? number : undefined;
  });
}

function read<T>(
  query: Record<string, unknown>,
  name: string,
  form: string,
  parse: (text: string) => T | undefined,
): T | undefined {
  const given = query[name];
  if (given === undefined) return undefined;
  const value = typeof given === 'string' ? parse(given) : undefined;
  if (value === undefined) throw new InvalidRequest(`${name} must be ${form}.`, name);
  return value;
}
