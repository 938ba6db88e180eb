import { request } from 'node:http';
import { json } from 'node:stream/consumers';
import type { EndpointAddress } from '../workload.js';

export interface CallAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** `POST /` with a payload over a connection of its own, as a harness calls a replica. */
export function callOverHttp(address: EndpointAddress, payload: string, signal: AbortSignal): Promise<CallAnswer> {
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
        headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) },
      },
      (response) => {
        json(response).then((answer) => resolve({ status: response.statusCode ?? 0, body: answer }), reject);
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
