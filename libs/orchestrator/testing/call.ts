import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { json } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Endpoint } from '../workload.js';
import { tokenHeader } from '../worker-tokens.js';
import { TEST_TOKENS } from './tokens.js';

export interface CallAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** The replica couldn't be connected to, so that the call may be made again. */
export class NotSent extends Error {
  constructor(cause: unknown, elapsedMs: number) {
    super(`nothing was sent in ${elapsedMs.toFixed(0)} ms`, { cause });
  }
}

const CONNECT_TIMEOUT_MS = 2_000;

/** The address of a replica that is gone may swallow what is sent to it: only a deadline of one's own tells. */
export async function callIfReachable(endpoint: Endpoint, payload: string, signal: AbortSignal): Promise<CallAnswer> {
  const { address } = endpoint;
  const target = address.kind === 'tcp' ? { host: address.host, port: address.port } : { path: address.path };
  const began = performance.now();
  const socket = connect(target);
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
  } catch (error) {
    // A process that could not run for so long looks at its timers first, and at its sockets after that.
    await nextTurn();
    if (socket.readyState !== 'open') throw new NotSent(error, performance.now() - began);
  } finally {
    socket.on('error', () => undefined).destroy();
  }
  return callOverHttp(endpoint, payload, signal);
}

/** `POST /` with a payload over a connection of its own, as a harness calls a replica. */
export function callOverHttp(endpoint: Endpoint, payload: string, signal: AbortSignal): Promise<CallAnswer> {
  const { address, credential } = endpoint;
  const target = address.kind === 'tcp' ? { host: address.host, port: address.port } : { socketPath: address.path };
  const body = JSON.stringify({ payload });
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        ...target,
        method: 'POST',
        path: '/',
        agent: false,
        signal,
        headers: {
          'Content-Type': 'application/json',
          'Content-Length': Buffer.byteLength(body),
          ...tokenHeader(TEST_TOKENS.tokenFor(credential)),
        },
      },
      (response) => {
        json(response).then((answer) => resolve({ status: response.statusCode ?? 0, body: answer }), reject);
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
