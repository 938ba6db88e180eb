import type { ClientRequest, IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import type { ReadableStream as WebStream } from 'node:stream/web';
import { VERSION } from '#libs/config/version.js';
import { Failure } from './failure.js';

const CONNECT_MS = 10_000;
const WITHOUT_BODY = new Set([204, 205, 304]);

export interface Bounds {
  /** For all of the answer, in milliseconds; unset: for as long as something comes. */
  readonly ms?: number;
  /** Without a byte of the answer, in milliseconds. */
  readonly idleMs?: number;
}

/**
 * What the generated client fetches with. Node's own fetch gives an answer up that doesn't begin within five minutes,
 * and a call may take fifteen; nor does it say why a connection failed without a look into its cause.
 */
export function transport(bounds: Bounds): typeof fetch {
  return async (input, init) => {
    const asked = new Request(input, init);
    const isTls = asked.url.startsWith('https:');
    // Only when something is asked: to load them is a third of the time of `faas --version`.
    const { request } = await (isTls ? import('node:https') : import('node:http'));
    return send(request, asked, Buffer.from(await asked.arrayBuffer()), bounds);
  };
}

function send(start: typeof request, asked: Request, body: Buffer, bounds: Bounds): Promise<Response> {
  return new Promise((resolve, reject) => {
    const isTls = asked.url.startsWith('https:');
    const headers = { ...Object.fromEntries(asked.headers), 'user-agent': `faas/${VERSION}` };
    const outgoing = start(asked.url, { method: asked.method, headers, agent: false });
    let incoming: IncomingMessage | undefined;
    const timers = startTimers(outgoing, isTls, bounds, (failure) => (incoming ?? outgoing).destroy(failure));
    const leave = () => (incoming ?? outgoing).destroy(asked.signal.reason as Error);
    asked.signal.addEventListener('abort', leave, { once: true });
    outgoing.once('close', () => {
      for (const timer of timers) clearTimeout(timer);
      asked.signal.removeEventListener('abort', leave);
    });
    outgoing.on('error', (error) => reject(unreachable(asked.url, error)));
    outgoing.on('response', (received) => {
      incoming = received;
      resolve(answerOf(received));
    });
    outgoing.end(body.length > 0 ? body : undefined);
  });
}

function startTimers(
  outgoing: ClientRequest,
  isTls: boolean,
  { ms, idleMs }: Bounds,
  give: (failure: Failure) => void,
): NodeJS.Timeout[] {
  const late = (what: string, after: number) => give(new Failure('unavailable', `${what} within ${after / 1000} s.`));
  const connecting = setTimeout(late, CONNECT_MS, 'The manager could not be connected to', CONNECT_MS);
  outgoing.once('socket', (socket) => socket.once(isTls ? 'secureConnect' : 'connect', () => clearTimeout(connecting)));
  if (idleMs !== undefined) outgoing.setTimeout(idleMs, () => late('The manager sent nothing', idleMs));
  return ms === undefined ? [connecting] : [connecting, setTimeout(late, ms, 'The manager did not answer', ms)];
}

function answerOf(incoming: IncomingMessage): Response {
  const status = incoming.statusCode ?? 0;
  const headers = new Headers();
  for (const [name, values = []] of Object.entries(incoming.headersDistinct)) {
    for (const value of values) headers.append(name, value);
  }
  if (!WITHOUT_BODY.has(status)) {
    return new Response(Readable.toWeb(incoming) as WebStream<Uint8Array> as ReadableStream, { status, headers });
  }
  incoming.resume();
  return new Response(null, { status, headers });
}

function unreachable(url: string, error: Error): Error {
  if (error instanceof Failure || error.name === 'AbortError') return error;
  // Of a name with several addresses all that failed are inside, and the message is empty.
  const reason = error instanceof AggregateError ? error.errors.map(String).join('; ') : error.message;
  return new Failure(
    'unavailable',
    `${new URL(url).origin} can't be reached: ${reason}.`,
    undefined,
    'Is the manager running there? FAAS_URL or faas login names another one.',
  );
}
