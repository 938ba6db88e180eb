import { type ClientRequest, request } from 'node:http';
import type { EndpointAddress } from './workload.js';

/** One question to a worker, which may be anything that listens at its address. */
export interface WorkerRequest {
  readonly address: EndpointAddress;
  /** Unset: `GET`. */
  readonly method?: 'GET' | 'POST';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** From the beginning to the last byte of the answer, in milliseconds. */
  readonly timeoutMs: number;
  /** Until it is connected, in milliseconds; unset: as long as the whole may take. */
  readonly connectMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface WorkerReply {
  readonly status: number;
  readonly body: Buffer;
}

/** A worker tells a few hundred bytes of itself; handler code that answers in its stead may send anything. */
const LARGEST_HEADER_BYTES = 16 * 1024;
const LARGEST_BODY_BYTES = 64 * 1024;
/** Head and body, with their framing. */
const MOST_RECEIVED_BYTES = 2 * (LARGEST_HEADER_BYTES + LARGEST_BODY_BYTES);
/** Interim answers (RFC 9110, 15.2); no request made here needs one. */
const MOST_INTERIM_ANSWERS = 4;

/**
 * Asks a worker over a connection of its own. Settles within `timeoutMs` by a timer of its own, whatever the peer does,
 * holds no more than a few hundred kilobytes, and leaves no socket behind. Rejects with why there is no answer; with the
 * signal's reason when that aborts.
 */
export function requestOfWorker(asked: WorkerRequest): Promise<WorkerReply> {
  const { timeoutMs, connectMs = timeoutMs, signal } = asked;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const outgoing = open(asked);
    const end = () => {
      clearTimeout(late);
      clearTimeout(unheard);
      signal?.removeEventListener('abort', abort);
      // What has not been sent yet would keep the socket as long as the peer reads nothing.
      outgoing.destroy();
    };
    const fail = (error: unknown) => {
      end();
      reject(error);
    };
    const abort = () => fail(signal?.reason);
    const late = setTimeout(() => fail(new Error(`A worker did not answer within ${timeoutMs} ms.`)), timeoutMs);
    // The address of a container that is gone swallows what is sent to it.
    const unheard = setTimeout(() => fail(new Error('Nobody takes connections at a worker’s address.')), connectMs);
    signal?.addEventListener('abort', abort, { once: true });
    outgoing.on('error', fail);
    outgoing.on('close', () => fail(new Error('A worker’s answer broke off.')));
    boundReception(outgoing, () => clearTimeout(unheard), fail);
    outgoing.on('response', (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > LARGEST_BODY_BYTES) fail(new Error(`A worker’s answer passed ${LARGEST_BODY_BYTES} bytes.`));
        else chunks.push(chunk);
      });
      response.on('error', fail);
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) });
        end();
      });
    });
    outgoing.end(asked.body);
  });
}

function open({ address, method = 'GET', path, headers = {}, body }: WorkerRequest): ClientRequest {
  const target = address.kind === 'tcp' ? { host: address.host, port: address.port } : { socketPath: address.path };
  const length = body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) };
  return request({
    ...target,
    method,
    path,
    headers: { ...headers, ...length },
    agent: false,
    maxHeaderSize: LARGEST_HEADER_BYTES,
  });
}

/** Ends exchanges that the parser doesn't: another protocol, endless interim answers, bytes that belong to no answer. */
function boundReception(outgoing: ClientRequest, connected: () => void, fail: (error: Error) => void): void {
  let interim = 0;
  outgoing.on('information', () => {
    interim += 1;
    if (interim > MOST_INTERIM_ANSWERS) fail(new Error('A worker sends interim answers without end.'));
  });
  // Node then leaves the socket to whoever listens, and tells the request nothing more.
  outgoing.on('upgrade', (_response, socket) => {
    socket.on('error', () => undefined).destroy();
    fail(new Error('A worker switches to a protocol that nobody asked for.'));
  });
  outgoing.on('socket', (socket) => {
    let received = 0;
    socket.once('connect', connected);
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received > MOST_RECEIVED_BYTES) fail(new Error(`A worker sent more than ${MOST_RECEIVED_BYTES} bytes.`));
    });
  });
}
