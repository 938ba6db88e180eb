import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { UnsupportedEncoding } from '#libs/errors/errors.js';
import type { Holding } from '../admission/held-bytes.js';
import { CallCancelled, InvalidPayload, PayloadTooLarge } from './errors.js';

/** JSON may write one byte of text as six: \u0000. */
const LONGEST_ESCAPE = 6;
const BODY_OVERHEAD_BYTES = 64 * 1024;

/**
 * Reads a call's body, bounded. Throws {@link PayloadTooLarge} as soon as the limit is certain to be passed, and
 * {@link ManagerOverloaded} when `holding` has no room for it, and {@link CallCancelled} when the caller leaves.
 */
export function readBody(
  request: IncomingMessage,
  payloadBytes: number,
  holding: Pick<Holding, 'add'>,
): Promise<Buffer> {
  const limit = payloadBytes * LONGEST_ESCAPE + BODY_OVERHEAD_BYTES;
  const { headers } = request;
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') return Promise.reject(new UnsupportedEncoding(encoding));
  if (Number(headers['content-length'] ?? 0) > limit) return Promise.reject(new PayloadTooLarge(payloadBytes));
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let isRefused = false;
    request.on('data', (chunk: Buffer) => {
      // The rest of what was refused is read and forgotten.
      if (isRefused) return;
      size += chunk.length;
      try {
        if (size > limit) throw new PayloadTooLarge(payloadBytes);
        holding.add(chunk.length);
        chunks.push(chunk);
      } catch (error) {
        isRefused = true;
        chunks.length = 0;
        reject(error);
      }
    });
    let whole = false;
    request.on('end', () => {
      whole = true;
      resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks));
    });
    // Every request closes in the end: an error with its stack for each costs more than reading the body does. One that
    // is cut short has no error of its own, as nobody listens for it.
    request.on('close', () => {
      if (!whole) reject(new CallCancelled());
    });
  });
}

/**
 * Checks that a body is `{"payload": "<string>"}` and answers the bytes for the worker: the caller's own where they
 * hold nothing else, so that they pass through untouched.
 */
export function checkedBody(body: Buffer, payloadBytes: number): Buffer {
  if (!isUtf8(body)) throw new InvalidPayload('The body is not UTF-8.');
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString('utf8'));
  } catch {
    throw new InvalidPayload(body.length === 0 ? 'The body is empty.' : 'The body is not JSON.');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new InvalidPayload('The body is not a JSON object.');
  }
  if (!Object.hasOwn(parsed, 'payload')) throw new InvalidPayload('The member "payload" is missing.');
  const { payload } = parsed as { payload: unknown };
  if (typeof payload !== 'string') {
    throw new InvalidPayload(`The member "payload" is ${kindOf(payload)}, not a string.`);
  }
  // A string has at most three bytes of UTF-8 for each UTF-16 unit, so most payloads need no count.
  if (payload.length * 3 > payloadBytes && Buffer.byteLength(payload) > payloadBytes) {
    throw new PayloadTooLarge(payloadBytes);
  }
  return Object.keys(parsed).length === 1 ? body : Buffer.from(JSON.stringify({ payload }));
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
