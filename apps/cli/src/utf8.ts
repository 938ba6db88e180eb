import { Failure } from './failure.js';

/** Bytes as the text that they are; what isn't text would arrive as another one. */
export function utf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Failure('usage', `${what} is not UTF-8.`, undefined, `${what} is text: encode bytes, as base64.`);
  }
}
