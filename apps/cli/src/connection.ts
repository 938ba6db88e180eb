import type { Client } from './client/client/index.js';
import type { Problem } from './client/index.js';
import { type Credentials, readCredentials } from './credentials.js';
import { Failure, failureOf, kindOf } from './failure.js';
import { type Bounds, transport } from './transport.js';

export const DEFAULT_URL = 'http://127.0.0.1:8080';

/** For what the manager answers from its database alone. */
export const SOON: Bounds = { ms: 30_000 };

export interface Connection {
  readonly url: string;
  readonly hasKey: boolean;
  readonly client: Client;
  /** The generated client's functions. */
  readonly api: typeof import('./client/index.js');
}

export async function connect(bounds: Bounds, { url, key }: Credentials = findCredentials()): Promise<Connection> {
  // Only when something is asked: to load them, and with them Node's fetch, takes longer than all of `faas --version`.
  const [api, { createClient }] = await Promise.all([import('./client/index.js'), import('./client/client/index.js')]);
  const auth = key === undefined ? {} : { auth: key };
  const client = createClient({ baseUrl: url, fetch: transport(bounds), ...auth });
  return { url, hasKey: key !== undefined, client, api };
}

/** The environment's, else what `faas login` has stored. */
export function findCredentials(
  { FAAS_URL, FAAS_API_KEY }: NodeJS.ProcessEnv = process.env,
  read: () => Credentials | undefined = readCredentials,
): Credentials {
  const asked = FAAS_URL === undefined || FAAS_URL === '' ? undefined : managerUrl(FAAS_URL);
  const given = FAAS_API_KEY === undefined || FAAS_API_KEY === '' ? undefined : checkedKey(FAAS_API_KEY);
  if (asked !== undefined && given !== undefined) return { url: asked, key: given };
  const stored = read();
  const url = asked ?? (stored === undefined ? DEFAULT_URL : managerUrl(stored.url));
  // A stored key is for the manager that it was stored with, and nobody else hears it.
  const key = given ?? (stored !== undefined && managerUrl(stored.url) === url ? stored.key : undefined);
  return key === undefined ? { url } : { url, key };
}

/** What can't stand in a header would be refused with a message that shows it. */
export function checkedKey(key: string): string {
  if (/^[\x21-\x7e]*$/.test(key)) return key;
  throw new Failure('usage', 'A key has neither blanks nor characters beyond ASCII.');
}

/** Without a slash at its end. */
export function managerUrl(text: string): string {
  const wrong = (reason: string) =>
    new Failure('usage', `The manager's URL ${reason}.`, undefined, `It is written like ${DEFAULT_URL}.`);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) throw wrong('must begin with http:// or https://');
  if (url.username !== '' || url.password !== '') throw wrong('may not hold a user or a password');
  if (url.search !== '' || url.hash !== '') throw wrong('may not hold a query or a fragment');
  return url.href.replace(/\/+$/, '');
}

const TYPE = 'its Content-Type is another one';

interface Asked<T> {
  readonly data?: T | undefined;
  readonly error?: unknown;
  readonly response?: Response | undefined;
}

/** What the manager answered; its problem documents, and its silence, are failures. */
export async function answered<T>(asking: Promise<Asked<T>>): Promise<{ data: T; response: Response }> {
  const { data, error, response } = await asking;
  if (response?.ok === true && error === undefined) {
    // What is asked for here is JSON, a stream or nothing.
    if (data instanceof Blob || (typeof data === 'string' && data !== ''))
      throw strange(response, new SyntaxError(TYPE));
    return { data: data as T, response };
  }
  if (isProblem(error)) throw failureOf(error);
  if (response === undefined || response.ok) throw error instanceof Failure ? error : strange(response, error);
  throw strange(response, error);
}

function isProblem(value: unknown): value is Problem {
  return typeof value === 'object' && value !== null && 'code' in value && 'detail' in value && 'status' in value;
}

/** No manager says that. */
function strange(response: Response | undefined, error: unknown): Failure {
  const hint = 'Is there a manager at FAAS_URL, and nothing in between that answers for it?';
  const elsewhere = response?.headers.get('location');
  // Not followed: a key is for the manager that it was given for.
  if (typeof elsewhere === 'string')
    return new Failure('usage', `The manager's URL leads on to ${elsewhere}: use that.`);
  if (response !== undefined && !response.ok) {
    return new Failure(kindOf(response.status), `HTTP ${response.status} without a reason.`, undefined, hint);
  }
  const reason = error instanceof Error ? error.message : String(error);
  // Cut off in the middle of an answer.
  if (!(error instanceof SyntaxError)) return new Failure('unavailable', `The answer was cut off: ${reason}.`);
  return new Failure('unexpected', `The answer is not JSON: ${reason}.`, undefined, hint);
}
