import { randomBytes } from 'node:crypto';
import type { FunctionId } from '#libs/orchestrator/workload.js';

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';
const FORM = /^[a-z2-7]{16}$/;

/** A new id: 10 random bytes in lower-case base32 (RFC 4648, section 6), 16 characters. */
export function newFunctionId(): FunctionId {
  const bits = BigInt(`0x${randomBytes(10).toString('hex')}`);
  return Array.from({ length: 16 }, (_, index) => ALPHABET[Number((bits >> BigInt(5 * (15 - index))) & 31n)]).join('');
}

/** Whether a text has the form of an id. Others needn't be looked up. */
export function isFunctionId(text: string): boolean {
  return FORM.test(text);
}
