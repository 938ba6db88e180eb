import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';

/**
 * No more than this of a peer's bytes goes to `JSON.parse`, which blocks all other calls and takes many times the
 * memory.
 */
export const PARSED_BYTES = 64 * 1024;
/** JSON may write one byte of text as six: \u0000. */
export const LONGEST_ESCAPE = 6;

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
export const CLOSE_BRACE = 0x7d;
const LETTER_U = 0x75;
const FIRST_PRINTABLE = 0x20;
const SPACES: ReadonlySet<number | undefined> = new Set([0x20, 0x09, 0x0a, 0x0d]);
/** The length of an escape that begins with this letter, 0 where there is none. */
const ESCAPE_BYTES = new Uint8Array(256);
for (const letter of Buffer.from('"\\/bfnrt')) ESCAPE_BYTES[letter] = 2;
ESCAPE_BYTES[LETTER_U] = 6;
const HEX = /^[0-9a-f]$/i;
const HEX_VALUE = Uint8Array.from({ length: 256 }, (_, code) =>
  HEX.test(String.fromCharCode(code)) ? Number.parseInt(String.fromCharCode(code), 16) : 0xff,
);

/** The strings in bytes of JSON, found without allocating anything for them. The bytes must be UTF-8. */
export class JsonStrings {
  /** The same bytes, four at a time. */
  private readonly words: Int32Array;
  private readonly firstWord: number;

  constructor(private readonly bytes: Buffer) {
    this.firstWord = Math.min(-bytes.byteOffset & 3, bytes.length);
    const count = (bytes.length - this.firstWord) >> 2;
    this.words = new Int32Array(bytes.buffer, count === 0 ? 0 : bytes.byteOffset + this.firstWord, count);
  }

  /** Where the closing quote of the string is whose first byte (after its quote) is at `from`; -1: it is malformed. */
  endOf(from: number): number {
    const { bytes } = this;
    let at = from;
    for (;;) {
      at = this.nextSpecial(at);
      const byte = bytes[at];
      if (byte === QUOTE) return at;
      if (byte !== BACKSLASH) return -1;
      const length = ESCAPE_BYTES[bytes[at + 1] as number] ?? 0;
      if (length === 0 || (length === 6 && unitAt(bytes, at + 2) < 0)) return -1;
      at += length;
    }
  }

  /** How many bytes of UTF-8 the text of a well-formed string has. A lone surrogate counts three, as Node writes it. */
  textBytes(from: number, end: number): number {
    const { bytes } = this;
    let size = 0;
    for (let at = from; at < end;) {
      if (bytes[at] !== BACKSLASH) {
        size += 1;
        at += 1;
      } else if (bytes[at + 1] !== LETTER_U) {
        size += 1;
        at += 2;
      } else {
        const unit = unitAt(bytes, at + 2);
        at += 6;
        if (unit < 0x80) size += 1;
        else if (unit < 0x800) size += 2;
        else if (
          isHigh(unit) &&
          bytes[at] === BACKSLASH &&
          bytes[at + 1] === LETTER_U &&
          isLow(unitAt(bytes, at + 2))
        ) {
          size += 4;
          at += 6;
        } else size += 3;
      }
    }
    return size;
  }

  /** The first byte from here that isn't plain text of a string. Long texts are searched four bytes at a time. */
  private nextSpecial(from: number): number {
    const { bytes, words, firstWord } = this;
    let at = from;
    for (;;) {
      // Byte by byte to the next word, or to the end.
      for (;;) {
        const byte = bytes[at];
        if (byte === undefined || byte === QUOTE || byte === BACKSLASH || byte < FIRST_PRINTABLE) return at;
        at += 1;
        if (((at - firstWord) & 3) === 0 && at >= firstWord) break;
      }
      let word = (at - firstWord) >> 2;
      while (word < words.length && !hasSpecial(words[word] as number)) word += 1;
      at = firstWord + word * 4;
    }
  }
}

/** Whether one of four bytes is a quote, a backslash or a control character (a borrow shows a byte below zero). */
function hasSpecial(word: number): boolean {
  const quote = word ^ 0x22222222;
  const backslash = word ^ 0x5c5c5c5c;
  const found =
    ((quote - 0x01010101) & ~quote) | ((backslash - 0x01010101) & ~backslash) | ((word - 0x20202020) & ~word);
  return (found & 0x80808080) !== 0;
}

/** The UTF-16 unit of four hexadecimal digits; negative: there aren't four. */
function unitAt(bytes: Buffer, at: number): number {
  if (at + 4 > bytes.length) return -1;
  const digit = (index: number) => HEX_VALUE[bytes[at + index] as number] as number;
  const [a, b, c, d] = [digit(0), digit(1), digit(2), digit(3)];
  return (a | b | c | d) > 0xf ? -1 : (a << 12) | (b << 8) | (c << 4) | d;
}

function isHigh(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xdc00;
}

function isLow(unit: number): boolean {
  return unit >= 0xdc00 && unit < 0xe000;
}

/** Where a string stands in bytes of JSON, from its first quote to its last. */
export interface Token {
  readonly start: number;
  readonly end: number;
}

const NO_TOKEN: Token = { start: 0, end: -1 };

/**
 * The longest string of a JSON text of any length, if at most {@link PARSED_BYTES} stand beside it. Otherwise why not:
 * a string is malformed, or there is more beside it. Scans no further than that takes.
 */
export function longestString(bytes: Buffer): Token | 'malformed' | 'more_beside' {
  const found = longestStrings(bytes, 1);
  return typeof found === 'string' ? found : (found[0] as Token);
}

/** The same of so many strings, the longest first. */
function longestStrings(bytes: Buffer, count: number): readonly Token[] | 'malformed' | 'more_beside' {
  const strings = new JsonStrings(bytes);
  const longest: Token[] = Array.from({ length: count }, () => NO_TOKEN);
  let shortest = 0;
  let together = 0;
  let at = 0;
  // What stands beside the longest strings only grows, so the scan ends as soon as that is too much.
  while (at - together <= PARSED_BYTES) {
    const start = bytes.indexOf(QUOTE, at);
    if (start < 0) break;
    const end = strings.endOf(start + 1);
    if (end < 0) return 'malformed';
    at = end + 1;
    if (at - start <= shortest) continue;
    longest[count - 1] = { start, end };
    longest.sort((one, other) => lengthOf(other) - lengthOf(one));
    together += at - start - shortest;
    shortest = lengthOf(longest[count - 1] as Token);
  }
  return bytes.length - together > PARSED_BYTES ? 'more_beside' : longest;
}

function lengthOf({ start, end }: Token): number {
  return end - start + 1;
}

/** Whether the text of a string has more bytes of UTF-8 than that. Escapes only make a text longer than it is. */
export function isLongerThan(mostBytes: number, bytes: Buffer, { start, end }: Token): boolean {
  return end - start - 1 > mostBytes && new JsonStrings(bytes).textBytes(start + 1, end) > mostBytes;
}

/** In place of a long string; no peer can know it. */
export const STAND_IN = randomUUID();

export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The object of a short JSON text, or what the bytes are instead. */
export function jsonObjectIn(
  bytes: Buffer,
): Readonly<Record<string, unknown>> | 'empty' | 'not UTF-8' | 'not JSON' | 'not a JSON object' {
  if (bytes.length === 0) return 'empty';
  if (!isUtf8(bytes)) return 'not UTF-8';
  const read = parsed(bytes.toString('utf8'));
  if (read === 'malformed') return 'not JSON';
  return isJsonObject(read.value) ? read.value : 'not a JSON object';
}

export interface ParsedJson {
  /** As `JSON.parse` gives it, but for {@link STAND_IN}. */
  readonly value: unknown;
  /** Where the string is that {@link STAND_IN} stands for; undefined: nothing was replaced. */
  readonly long?: Token;
}

/**
 * Parses JSON of any length, of which no more than {@link PARSED_BYTES} stand beside its longest string. The bytes must
 * be UTF-8.
 */
export function parseBounded(bytes: Buffer): ParsedJson | 'malformed' | 'more_beside' {
  if (bytes.length <= PARSED_BYTES) return parsed(bytes.toString('utf8'));
  const long = longestString(bytes);
  if (typeof long === 'string') return long;
  return parsed(`${bytes.toString('utf8', 0, long.start)}"${STAND_IN}"${bytes.toString('utf8', long.end + 1)}`, long);
}

function parsed(text: string, long?: Token): ParsedJson | 'malformed' {
  try {
    return { value: JSON.parse(text) as unknown, ...(long && { long }) };
  } catch {
    return 'malformed';
  }
}

/**
 * Parses JSON of any length, of which no more than {@link PARSED_BYTES} stand beside the texts of these members of its
 * object. The bytes must be UTF-8.
 */
export function parseBeside(
  bytes: Buffer,
  names: readonly string[],
): { readonly value: unknown } | 'malformed' | 'more_beside' {
  if (bytes.length <= PARSED_BYTES) return parsed(bytes.toString('utf8'));
  const longest = longestStrings(bytes, names.length);
  if (typeof longest === 'string') return longest;
  // As few as that takes: what is short may be a text of any member.
  let beside = bytes.length;
  const long = longest.filter((token) => {
    const isNeeded = beside > PARSED_BYTES;
    if (isNeeded) beside -= lengthOf(token);
    return isNeeded;
  });
  long.sort((one, other) => one.start - other.start);
  const standIns = long.map((_, index) => `${STAND_IN} ${index}`);
  let text = '';
  let at = 0;
  for (const [index, { start, end }] of long.entries()) {
    text += `${bytes.toString('utf8', at, start)}"${standIns[index]}"`;
    at = end + 1;
  }
  const read = parsed(text + bytes.toString('utf8', at));
  if (read === 'malformed' || !isJsonObject(read.value)) return read;
  const { value } = read;
  let found = 0;
  for (const name of names) {
    const token = long[standIns.indexOf(value[name] as string)];
    if (token === undefined) continue;
    value[name] = JSON.parse(bytes.toString('utf8', token.start, token.end + 1)) as string;
    found += 1;
  }
  return found < long.length ? 'more_beside' : { value };
}

/**
 * Whether a JSON object has a member of that name within its first {@link PARSED_BYTES}. The object may be cut off, and
 * nothing else of it is checked.
 */
export function namesMember(beginning: Buffer, name: string): boolean {
  const bytes = beginning.subarray(0, PARSED_BYTES);
  const strings = new JsonStrings(bytes);
  let depth = 0;
  let isKey = false;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (SPACES.has(byte)) continue;
    if (depth === 0 && byte !== OPEN_BRACE) return false;
    if (byte === QUOTE) {
      const end = strings.endOf(at + 1);
      if (end < 0) return false;
      if (isKey && depth === 1 && JSON.parse(bytes.toString('utf8', at, end + 1)) === name) return true;
      at = end;
    } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth += 1;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth -= 1;
    isKey = byte === OPEN_BRACE || byte === COMMA;
  }
  return false;
}

/** The last byte that is no white space; undefined: there is none. */
export function lastByte(bytes: Buffer): number | undefined {
  let last = bytes.length - 1;
  while (SPACES.has(bytes[last])) last -= 1;
  return bytes[last];
}
