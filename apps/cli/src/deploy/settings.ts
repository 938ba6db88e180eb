import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { HistorySettingDto, InvocationPolicyDto, JsonRevisionUploadDto } from '../client/index.js';
import { Failure } from '../failure.js';

export type Settings = Omit<JsonRevisionUploadDto, 'function_name' | 'code' | 'message'>;
/** A `callback_url` that is null is taken away. */
export type InvocationDefaults = Readonly<Omit<InvocationPolicyDto, 'callback_url'> & { callback_url?: string | null }>;
export type HistorySetting = Readonly<HistorySettingDto>;
type Sources = NonNullable<Settings['secrets']>;
type Value = number | string | readonly string[] | Sources | null;

export interface Setting {
  readonly name: string;
  /**
   * `text`: the flag names a file, faas.yaml holds the text. `sources`: names of secrets, for variables and files. `url`:
   * the flag takes it away by `none`.
   */
  readonly kind: 'integer' | 'share' | 'map' | 'text' | 'sources' | 'url' | 'word' | 'words';
  readonly what: string;
}

/** All settings of a revision: flags, fields of faas.yaml and what is sent are made from this list. */
export const SETTINGS = [
  { name: 'timeout_ms', kind: 'integer', what: 'time limit of one call' },
  { name: 'idle_timeout_ms', kind: 'integer', what: 'without a call for this long it loses its replicas; 0: never' },
  { name: 'min_replicas', kind: 'integer', what: 'replicas that stay ready though nobody calls' },
  { name: 'max_replicas', kind: 'integer', what: 'replicas there may be' },
  { name: 'concurrency', kind: 'integer', what: 'calls that run at once in one replica' },
  { name: 'memory_mib', kind: 'integer', what: 'memory of one replica' },
  { name: 'cpu_millis', kind: 'integer', what: 'processor time of one replica, in thousandths of a core' },
  { name: 'env', kind: 'map', what: 'a variable of the environment; may be repeated' },
  { name: 'secrets', kind: 'sources', what: 'a variable with the value of a secret, or a file of it; may be repeated' },
  {
    name: 'handler_kind',
    kind: 'word',
    what: 'what the handler is called with: auto, payload, context, asgi, wsgi, lambda, openfaas, functions-framework or knative',
  },
  { name: 'requirements', kind: 'text', what: 'the packages that the code imports, as a requirements file' },
] as const satisfies readonly (Setting & { name: keyof Settings })[];

/**
 * What calls for later have that say nothing else: flags, and members of `invocation_defaults` in faas.yaml. They belong
 * to the function and to no revision.
 */
export const INVOCATION_DEFAULTS = [
  { name: 'max_attempts', kind: 'integer', what: 'how often a call for later is tried' },
  { name: 'retry_on', kind: 'words', what: 'after which failures it is tried again: error, timeout, crash, or none' },
  { name: 'backoff_ms', kind: 'integer', what: 'the longest pause before its second attempt; it doubles with each' },
  { name: 'max_age_ms', kind: 'integer', what: 'it is given up when it still waits so long after it was due' },
  { name: 'callback_url', kind: 'url', what: 'who is told of its end, or none' },
  { name: 'callback_format', kind: 'word', what: 'what that gets: plain, binary or structured (CloudEvents)' },
] as const satisfies readonly (Setting & { name: keyof InvocationDefaults })[];

/** What is kept of a function's calls: flags, and members of `history` in faas.yaml. The function's as well. */
export const HISTORY = [
  { name: 'payloads', kind: 'share', what: 'of which share of its calls payload and result are kept, from 0 to 1' },
  { name: 'redact', kind: 'words', what: 'members of JSON objects whose values are not kept, or none' },
] as const satisfies readonly (Setting & { name: keyof HistorySetting })[];

const PLACEHOLDERS = {
  integer: '<n>',
  share: '<share>',
  map: '<key=value>',
  text: '<file>',
  sources: '<key=secret|key=file:secret>',
  url: '<url>',
  word: '<word>',
  words: '<word,…>',
} as const;

export function addSettings(command: Command, settings: readonly Setting[] = SETTINGS): Command {
  for (const setting of settings) command.addOption(optionOf(setting));
  return command;
}

function optionOf({ name, kind, what }: Setting): Option {
  const option = new Option(`--${name.replaceAll('_', '-')} ${PLACEHOLDERS[kind]}`, what);
  switch (kind) {
    case 'integer':
      return option.argParser(integer);
    case 'share':
      return option.argParser(share);
    case 'map':
      return option.argParser(pair);
    case 'url':
    case 'word':
      return option;
    case 'words':
      return option.argParser((text) => (text === 'none' ? [] : text.split(',')));
    case 'text':
      return option.argParser(textOf);
    case 'sources':
      return option.argParser(source);
  }
}

/** Those that were given as flags. */
export function settingsOf<T extends object = Settings>(
  options: Readonly<Record<string, unknown>>,
  settings: readonly Setting[] = SETTINGS,
): Partial<T> {
  const given = settings.map((setting) => [setting.name, givenFor(setting, options)] as const);
  return Object.fromEntries(given.filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** To commander null is a flag without a value. */
function givenFor({ name, kind }: Setting, options: Readonly<Record<string, unknown>>): unknown {
  const { [attributeOf(name)]: value } = options;
  return kind === 'url' && value === 'none' ? null : value;
}

/** A value of faas.yaml, or what is wrong with it. `null` leaves the setting to the installation. */
export function checkedValue({ kind }: Setting, value: unknown): { value: Value } | { fault: string } {
  if (value === null) return { value };
  switch (kind) {
    case 'integer':
      return Number.isSafeInteger(value) ? { value: value as number } : { fault: 'must be a whole number' };
    case 'share':
      return isShare(value) ? { value } : { fault: SHARE };
    case 'url':
    case 'word':
    case 'text':
      return typeof value === 'string' ? { value } : { fault: 'must be a text' };
    case 'words':
      return Array.isArray(value) && value.every((one) => typeof one === 'string')
        ? { value }
        : { fault: 'must be a list of texts' };
    case 'map':
      return checkedMap(value);
    case 'sources':
      return checkedSources(value);
  }
}

function checkedSources(value: unknown): { value: Sources } | { fault: string } {
  const fault = 'must be a map of names of secrets, or of {file: NAME}';
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { fault };
  const isSource = (one: unknown) => typeof one === 'string' || isFile(one);
  return Object.values(value).every(isSource) ? { value: value as Sources } : { fault };
}

function isFile(one: unknown): boolean {
  if (typeof one !== 'object' || one === null) return false;
  const { file, ...others } = one as { readonly file?: unknown };
  return typeof file === 'string' && Object.keys(others).length === 0;
}

export function checkedMap(value: unknown): { value: Readonly<Record<string, string>> } | { fault: string } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { fault: 'must be a map of texts' };
  // 1.0, no and 0777 would be other texts by the time they are values.
  const wrong = Object.entries(value).find(([, one]) => typeof one !== 'string');
  return wrong === undefined
    ? { value: value as Readonly<Record<string, string>> }
    : { fault: `must be a map of texts: put the value of ${wrong[0]} in quotes` };
}

export function integer(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}

const SHARE = 'must be a number from 0 to 1';

function isShare(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= 1;
}

function share(text: string): number {
  const value = /^\d*\.?\d+$/.test(text) ? Number(text) : undefined;
  if (isShare(value)) return value;
  throw new InvalidArgumentError(`It ${SHARE}.`);
}

export function pair(text: string, former: Readonly<Record<string, string>> = {}): Record<string, string> {
  const sign = text.indexOf('=');
  if (sign > 0) return { ...former, [text.slice(0, sign)]: text.slice(sign + 1) };
  throw new InvalidArgumentError('It must be written key=value.');
}

const OF_FILE = 'file:';

function source(text: string, former: Sources = {}): Sources {
  const sources = Object.entries(pair(text)).map(([name, from]) => {
    return [name, from.startsWith(OF_FILE) ? { file: from.slice(OF_FILE.length) } : from] as const;
  });
  return { ...former, ...Object.fromEntries(sources) };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Failure('not_found', `${path} can't be read: ${(error as Error).message}`);
  }
}

/** As commander calls it. */
function attributeOf(name: string): string {
  return name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}
