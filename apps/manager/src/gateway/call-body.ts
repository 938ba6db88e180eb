import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { UnsupportedEncoding } from '#libs/errors/errors.js';
import { Chunks } from '../memory/chunks.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { CallCancelled, InvalidPayload, PayloadTooLarge } from './errors.js';
import { JsonStrings, longestString, PARSED_BYTES } from './json-scan.js';

/** JSON may write one byte of text as six: \u0000. */
const LONGEST_ESCAPE = 6;
const BODY_OVERHEAD_BYTES = PARSED_BYTES;
/** In place of a long string; no caller can know it. */
const STAND_IN = randomUUID();

/**
 * Reads a call's body, bounded. Throws {@link PayloadTooLarge} as soon as the limit is certain to be passed, and
 * what `reservation` throws when it has no room for it, and {@link CallCancelled} when the caller leaves.
 */
export function readBody(
  request: IncomingMessage,
  payloadBytes: number,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<Buffer> {
  const limit = payloadBytes * LONGEST_ESCAPE + BODY_OVERHEAD_BYTES;
  const { headers } = request;
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') return Promise.reject(new UnsupportedEncoding(encoding));
  if (Number(headers['content-length'] ?? 0) > limit) return Promise.reject(new PayloadTooLarge(payloadBytes));
  // Nothing more is heard of one that closed before.
  if (request.destroyed) return Promise.reject(new CallCancelled());
  return new Promise((resolve, reject) => {
    const chunks = new Chunks();
    let size = 0;
    let isRefused = false;
    request.on('data', (chunk: Buffer) => {
      // The rest of what was refused is read and forgotten.
      if (isRefused) return;
      size += chunk.length;
      try {
        if (size > limit) throw new PayloadTooLarge(payloadBytes);
        reservation.add(chunk.length);
        chunks.add(chunk);
      } catch (error) {
        isRefused = true;
        chunks.clear();
        reject(error);
      }
    });
    let whole = false;
    request.on('end', () => {
      whole = true;
      resolve(chunks.take());
    });
    // Every request closes in the end: an error with its stack for each costs more than reading the body does. One that
    // is cut short has no error of its own, as nobody listens for it.
    request.on('close', () => {
      if (!whole) reject(new CallCancelled());
    });
  });
}

/** Checks that a body is `{"payload": "<string>"}` and nothing more, so that it can pass through untouched. */
export function checkBody(body: Buffer, payloadBytes: number): void {
  if (!isUtf8(body)) throw new InvalidPayload('The body is not UTF-8.');
  if (body.length > PARSED_BYTES) checkLargeBody(body, payloadBytes);
  else checkSize(payloadOf(body.toString('utf8')), payloadBytes);
}

/** Of a large body only what stands beside its longest string is parsed, with a stand-in for that. */
function checkLargeBody(body: Buffer, payloadBytes: number): void {
  const longest = longestString(body);
  if (longest === 'malformed') throw new InvalidPayload('The body is not JSON.');
  if (longest === 'more_beside') {
    throw new InvalidPayload(`The body holds more than ${PARSED_BYTES} bytes beside the payload.`);
  }
  const { start, end } = longest;
  const rest = `${body.toString('utf8', 0, start)}"${STAND_IN}"${body.toString('utf8', end + 1)}`;
  const payload = payloadOf(rest);
  // The longest string may be that of a member of the same name, of which the last counts.
  if (payload !== STAND_IN) checkSize(payload, payloadBytes);
  // Escapes only make a text longer than it is.
  else if (end - start - 1 > payloadBytes && new JsonStrings(body).textBytes(start + 1, end) > payloadBytes) {
    throw new PayloadTooLarge(payloadBytes);
  }
}

function payloadOf(text: string): string {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new InvalidPayload(text.length === 0 ? 'The body is empty.' : 'The body is not JSON.');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new InvalidPayload('The body is not a JSON object.');
  }
  if (!Object.hasOwn(body, 'payload')) throw new InvalidPayload('The member "payload" is missing.');
  const { payload } = body as { payload: unknown };
  if (typeof payload !== 'string') {
    throw new InvalidPayload(`The member "payload" is ${kindOf(payload)}, not a string.`);
  }
  const names = Object.keys(body);
  if (names.length === 1) return payload;
  const unknown = names.find((name) => name !== 'payload') as string;
  const shown = unknown === STAND_IN ? 'of a very long name' : unknown.slice(0, 64);
  throw new InvalidPayload(`There is no member ${JSON.stringify(shown)}.`, shown);
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
