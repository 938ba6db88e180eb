import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import {
  isJsonObject,
  isLongerThan,
  LONGEST_ESCAPE,
  PARSED_BYTES,
  parseBounded,
  STAND_IN,
  type Token,
} from '#libs/json/json-scan.js';
import { readBounded } from '../http/body.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { CallCancelled, InvalidPayload, PayloadTooLarge } from './errors.js';

const BODY_OVERHEAD_BYTES = PARSED_BYTES;

/**
 * Reads a call's body, bounded. Throws {@link PayloadTooLarge} as soon as the limit is certain to be passed, and
 * what `reservation` throws when it has no room for it, and {@link CallCancelled} when the caller leaves.
 */
export function readBody(
  request: IncomingMessage,
  payloadBytes: number,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<Buffer> {
  return readBounded(request, payloadBytes * LONGEST_ESCAPE + BODY_OVERHEAD_BYTES, reservation, {
    tooLarge: () => new PayloadTooLarge(payloadBytes),
    cutOff: () => new CallCancelled(),
  });
}

/** Checks that a body is `{"payload": "<string>"}` and nothing more, so that it can pass through untouched. */
export function checkBody(body: Buffer, payloadBytes: number): void {
  parseCall(body, payloadBytes);
}

/** A body that is a call: its members, of which `payload` stands for the text at `long` where that is very long. */
export interface ParsedCall {
  readonly members: Readonly<Record<string, unknown>>;
  readonly long: Token | undefined;
}

/** Parses a body with a payload within its limit, and no further members than `others`. */
export function parseCall(body: Buffer, payloadBytes: number, others: readonly string[] = []): ParsedCall {
  if (!isUtf8(body)) throw new InvalidPayload('The body is not UTF-8.');
  const parsed = parseBounded(body);
  if (parsed === 'malformed') {
    throw new InvalidPayload(body.length === 0 ? 'The body is empty.' : 'The body is not JSON.');
  }
  if (parsed === 'more_beside') {
    throw new InvalidPayload(`The body holds more than ${PARSED_BYTES} bytes beside the payload.`);
  }
  const payload = payloadOf(parsed.value, others);
  const { long } = parsed;
  const isLong = long !== undefined && payload === STAND_IN;
  // The longest string may be that of a member of the same name, of which the last counts.
  if (!isLong) checkSize(payload, payloadBytes);
  else if (isLongerThan(payloadBytes, body, long)) throw new PayloadTooLarge(payloadBytes);
  return { members: parsed.value as Record<string, unknown>, long: isLong ? long : undefined };
}

function payloadOf(body: unknown, others: readonly string[]): string {
  if (!isJsonObject(body)) throw new InvalidPayload('The body is not a JSON object.');
  if (!Object.hasOwn(body, 'payload')) throw new InvalidPayload('The member "payload" is missing.');
  const { payload } = body;
  if (typeof payload !== 'string') {
    throw new InvalidPayload(`The member "payload" is ${kindOf(payload)}, not a string.`);
  }
  const names = Object.keys(body);
  const unknown = names.length === 1 ? undefined : names.find((name) => name !== 'payload' && !others.includes(name));
  if (unknown === undefined) return payload;
  const shown = unknown === STAND_IN ? 'of a very long name' : unknown.slice(0, 64);
  const known = ['payload', ...others].join(', ');
  throw new InvalidPayload(`There is no member ${JSON.stringify(shown)}. Known: ${known}.`, shown);
}

function checkSize(payload: string, payloadBytes: number): void {
  // A string has at most three bytes of UTF-8 for each UTF-16 unit, so most payloads need no count.
  if (payload.length * 3 > payloadBytes && Buffer.byteLength(payload) > payloadBytes) {
    throw new PayloadTooLarge(payloadBytes);
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
