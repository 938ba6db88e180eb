import type { IncomingMessage } from 'node:http';
import { jsonObjectIn, LONGEST_ESCAPE } from '#libs/json/json-scan.js';
import { readBounded } from '../http/body.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { InvalidSecret } from './errors.js';

/** In bytes of UTF-8. */
export const LARGEST_SECRET = 64 * 1024;
const BESIDE_BYTES = 1024;

/** Reads the value of a secret. Throws {@link InvalidSecret}, which shows nothing of the body. */
export async function readSecretValue(
  request: IncomingMessage,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<string> {
  const body = await readBounded(request, LARGEST_SECRET * LONGEST_ESCAPE + BESIDE_BYTES, reservation, {
    tooLarge: () => new InvalidSecret('value', `value may have ${LARGEST_SECRET} bytes.`),
    cutOff: () => new InvalidSecret('body', 'The body was cut off.'),
  });
  const sent = jsonObjectIn(body);
  if (typeof sent === 'string') {
    throw new InvalidSecret('body', `The body is ${sent}. Send a JSON object, {"value": "…"}.`);
  }
  const { value, ...others } = sent;
  // Its name may be a value that was meant for another place.
  if (Object.keys(others).length > 0) throw new InvalidSecret('body', 'There is no other member than value.');
  const fault = valueFault(value);
  if (fault !== undefined) throw new InvalidSecret('value', fault);
  return value as string;
}

export function valueFault(value: unknown): string | undefined {
  if (typeof value !== 'string') return 'value must be a string.';
  if (value === '') return 'value is empty.';
  if (value.includes('\0') || !value.isWellFormed()) return 'value holds characters that are no text.';
  const bytes = Buffer.byteLength(value);
  return bytes > LARGEST_SECRET ? `value has ${bytes} bytes, and may have ${LARGEST_SECRET}.` : undefined;
}
