import { isUtf8 } from 'node:buffer';
import { isJsonObject, PARSED_BYTES, parseBounded, STAND_IN, type Token } from '#libs/json/json-scan.js';
import { timeOf } from '#libs/json/time.js';
import { InvalidEvent } from './errors.js';

// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, and beside it bindings/http-protocol-binding.md
// and formats/json-format.md

/** Names are in lower case. */
type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

const PREFIX = 'ce-';
const REQUIRED = ['specversion', 'id', 'source', 'type'] as const;
const VERSION = '1.0';
export const STRUCTURED = 'application/cloudevents+json';
const ANY_STRUCTURED = /^application\/cloudevents/i;
const JSON_STRUCTURED = /^application\/cloudevents\+json\s*(;|$)/i;
const NAME = /^[a-z0-9]+$/;
/** What no reference to a resource holds (RFC 3986, section 2). */
const NO_REFERENCE = /[^\x21-\x7e]|["<>\\^`{|}]/;
const QUOTED = /^"(?:[^"\\]|\\.)*"$/;
const URI = /^[a-z][a-z0-9+.-]*:/i;
const MEDIA_TYPE = /^[!#$&^_.+\w-]+\/[!#$&^_.+\w-]+\s*(;.*)?$/;
const BASE64 = /^[a-z0-9+/]*={0,2}$/i;
// oxlint-disable-next-line no-control-regex -- these may not be in a text
const NO_TEXT = /[\x00-\x1f\x7f-\x9f]/;

/**
 * How a request carries an event: its attributes in headers, or all of it in the body, as JSON or as `other` formats and
 * batches, which nothing here reads; undefined: it is none.
 */
export function eventModeOf(headers: Headers): 'binary' | 'structured' | 'other' | undefined {
  const { 'content-type': type } = headers;
  if (typeof type === 'string' && ANY_STRUCTURED.test(type)) return JSON_STRUCTURED.test(type) ? 'structured' : 'other';
  // Others have headers such as `ce-id` of their own.
  return headers[`${PREFIX}specversion`] === undefined ? undefined : 'binary';
}

/** Throws {@link InvalidEvent} with the attribute at fault. What it has as data is its handler's to read. */
export function checkBinary(headers: Headers): void {
  const attributes = Object.entries(headers)
    .filter(([name]) => name.startsWith(PREFIX))
    .map(([name, value]) => [name.slice(PREFIX.length), decoded(String(value))]);
  checkAttributes({ ...Object.fromEntries(attributes) } as Record<string, unknown>);
}

/** The same of an event in the JSON format, of which this is all. */
export function checkStructured(body: Buffer, headers: Headers = {}): void {
  if (!isUtf8(body)) throw unreadable('UTF-8', headers);
  const parsed = parseBounded(body);
  if (parsed === 'malformed') throw unreadable('JSON', headers);
  if (parsed === 'more_beside') {
    throw new InvalidEvent(
      'body',
      `The event holds more than ${PARSED_BYTES} bytes beside its longest text: send its attributes as headers (binary mode).`,
    );
  }
  const { value, long } = parsed;
  if (!isJsonObject(value)) throw new InvalidEvent('body', 'The event is not a JSON object.');
  const { data, data_base64: base64, ...attributes } = value;
  if (base64 !== undefined && base64 !== null) {
    if (data !== undefined) throw new InvalidEvent('data_base64', 'There may be data or data_base64, not both.');
    if (typeof base64 !== 'string') throw new InvalidEvent('data_base64', 'data_base64 must be a text.');
    if (!isBase64(long !== undefined && base64 === STAND_IN ? textAt(body, long) : base64)) {
      throw new InvalidEvent('data_base64', 'data_base64 must be base64 (RFC 4648, section 4), padding and all.');
    }
  }
  checkAttributes(attributes);
}

function isBase64(text: string): boolean {
  return text.length % 4 === 0 && BASE64.test(text);
}

/** A text as far as it is ASCII. */
function textAt(body: Buffer, { start, end }: Token): string {
  const text = body.toString('latin1', start + 1, end);
  return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text;
}

/** What it is compressed to is its sender's to choose: nothing here unpacks it. */
function unreadable(what: string, { 'content-encoding': encoding = 'identity' }: Headers): InvalidEvent {
  if (encoding === 'identity') return new InvalidEvent('body', `The event is not ${what}.`);
  const named = JSON.stringify(String(encoding).slice(0, 64));
  return new InvalidEvent(
    'Content-Encoding',
    `The event is not ${what}: its Content-Encoding is ${named}, and events are not unpacked. Send it uncompressed, without that header.`,
  );
}

/** As the HTTP binding writes values in headers (section 3.1.3.2): maybe quoted, and then with escapes. */
function decoded(value: string): string {
  const text = QUOTED.test(value) ? value.slice(1, -1).replaceAll(/\\(.)/g, '$1') : value;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function checkAttributes(attributes: Readonly<Record<string, unknown>>): void {
  for (const name of REQUIRED) {
    const { [name]: value } = attributes;
    if (value === undefined || value === null) throw new InvalidEvent(name, `${name} is missing.`);
  }
  for (const [name, value] of Object.entries(attributes)) {
    // As good as none.
    const fault = value === null ? undefined : attributeFault(name, value);
    if (fault !== undefined) throw new InvalidEvent(name.slice(0, 64), fault);
  }
}

function attributeFault(name: string, value: unknown): string | undefined {
  const shown = name.slice(0, 64);
  if (!NAME.test(name))
    return `${JSON.stringify(shown)} can't be the name of an attribute: those have a to z and 0 to 9.`;
  const rule = Object.hasOwn(RULES, name) ? RULES[name] : undefined;
  if (rule === undefined && (typeof value === 'boolean' || isInteger(value))) return undefined;
  if (typeof value !== 'string')
    return `${shown} must be a text${rule === undefined ? ', a number or a boolean' : ''}.`;
  if (NO_TEXT.test(value) || !value.isWellFormed()) return `${shown} holds characters that no text has.`;
  return rule?.(value);
}

/** Of 32 bits. */
function isInteger(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= -(2 ** 31) && (value as number) < 2 ** 31;
}

const RULES: Readonly<Record<string, (value: string) => string | undefined>> = {
  specversion: (value) => (value === VERSION ? undefined : `specversion must be ${VERSION}.`),
  id: filled('id'),
  type: filled('type'),
  source: (value) =>
    value === '' || NO_REFERENCE.test(value) ? 'source must be a URI reference, such as /sensors/7.' : undefined,
  subject: filled('subject'),
  dataschema: (value) => (NO_REFERENCE.test(value) || !URI.test(value) ? 'dataschema must be a URI.' : undefined),
  datacontenttype: (value) =>
    MEDIA_TYPE.test(value) ? undefined : 'datacontenttype must be a media type, such as application/json.',
  time: (value) =>
    timeOf(value) === undefined ? 'time must be a time such as 2026-11-23T12:00:00Z (RFC 3339).' : undefined,
};

function filled(name: string) {
  return (value: string): string | undefined => (value === '' ? `${name} must not be empty.` : undefined);
}
