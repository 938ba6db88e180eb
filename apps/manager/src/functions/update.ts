import type { Scope } from '#libs/config/api-keys.js';
import type { IncomingMessage } from 'node:http';
import { isJsonObject, jsonObjectIn, LONGEST_ESCAPE, longestString, PARSED_BYTES } from '#libs/json/json-scan.js';
import { readBounded } from '../http/body.js';
import { shownUrl } from '../invocations/invocation-policy.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { faultIn } from '../revisions/faultless.js';
import { type Metadata, METADATA_NAMES, MetadataFields, metadataOf, UNNAMED } from './dto/metadata.dto.js';
import { InvalidUpdate } from './errors.js';

/** A JSON merge patch (RFC 7396) of {@link Metadata}: what is null goes back to what it is without an upload's word. */
export type Update = Readonly<Record<string, unknown>>;

/** Reads the body of a change. Throws {@link InvalidUpdate} where it is no JSON object, or names what can't be changed. */
export async function readUpdate(
  request: IncomingMessage,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<Update> {
  const update = await readJsonObject(request, reservation, '{"enabled": false}');
  const unknown = Object.keys(update).find((name) => !(METADATA_NAMES as readonly string[]).includes(name));
  if (unknown === undefined) return update;
  const shown = unknown.slice(0, 64);
  const known = METADATA_NAMES.join(', ');
  throw new InvalidUpdate(shown, `${JSON.stringify(shown)} can't be changed here. What can: ${known}.`);
}

/**
 * Throws {@link InvalidUpdate}, with an example of what to send, where the body is no JSON object.
 *
 * @param textBytes of the longest text that may be in it, however that is escaped
 */
export async function readJsonObject(
  request: IncomingMessage,
  reservation: Pick<MemoryReservation, 'add'>,
  example: string,
  textBytes = 0,
): Promise<Update> {
  const most = PARSED_BYTES + textBytes * LONGEST_ESCAPE;
  const body = await readBounded(request, most, reservation, {
    tooLarge: () => new InvalidUpdate('body', `The body is longer than ${most} bytes.`),
    cutOff: () => new InvalidUpdate('body', 'The body was cut off.'),
  });
  if (body.length > PARSED_BYTES && longestString(body) === 'more_beside') {
    throw new InvalidUpdate('body', `The body holds more than ${PARSED_BYTES} bytes beside its longest text.`);
  }
  const value = jsonObjectIn(body);
  if (typeof value !== 'string') return value;
  throw new InvalidUpdate('body', `The body is ${value}. Send a JSON object, such as ${example}.`);
}

/** Of a body of a few bytes what counts in memory is the request itself. */
export function readSmallJson(request: IncomingMessage, example: string): Promise<Update> {
  return readJsonObject(request, { add: () => undefined }, example);
}

/**
 * What `before` becomes by `update`. Throws {@link InvalidUpdate} with the member at fault.
 *
 * @param scope whose key asks for it
 */
export function updated(before: Metadata, update: Update, scope: Scope): Metadata {
  const { labels, invocation_defaults, history, ...rest } = update;
  const given = Object.entries(rest).map(([name, value]) => [name, value ?? UNNAMED[name as keyof Metadata]]);
  const maps = {
    labels: merged(before.labels, labels),
    invocation_defaults: merged(before.invocation_defaults, asMeant(before, invocation_defaults, scope)),
    history: merged(before.history, history),
  };
  const after = metadataOf({ ...before, ...Object.fromEntries(given), ...maps } as Metadata);
  const fault = faultIn(Object.assign(new MetadataFields(), after));
  if (fault) throw new InvalidUpdate(fault.field, fault.message);
  return after;
}

/** Whoever sees a callback's URL without its query, and sends that back, leaves it as it is. */
function asMeant({ invocation_defaults: { callback_url: url } }: Metadata, changes: unknown, scope: Scope): unknown {
  if (scope === 'admin' || !url || !isJsonObject(changes)) return changes;
  return changes['callback_url'] === shownUrl(url) ? { ...changes, callback_url: url } : changes;
}

/** A map with `changes`, of which null takes a member away; what is no object is left for the rules to refuse. */
function merged(before: object, changes: unknown): unknown {
  if (changes === undefined) return before;
  if (changes === null) return {};
  if (!isJsonObject(changes)) return changes;
  return Object.fromEntries(Object.entries({ ...before, ...changes }).filter(([, value]) => value !== null));
}
