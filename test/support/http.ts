import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { PROBLEMS } from '#libs/errors/problems.js';
import { expect } from 'vitest';
import type { Problem } from '../client/index.js';
import { expectAsDocumented } from './document.js';

export interface Sent {
  readonly method?: string;
  readonly headers?: OutgoingHttpHeaders | readonly string[];
  readonly body?: string | Buffer;
  readonly signal?: AbortSignal;
  /** An address of this machine to send from. */
  readonly from?: string | undefined;
}

/** An address of this machine that only this test sends from; undefined where a machine has but one on loopback. */
export function anAddress(number: number): string | undefined {
  return process.platform === 'linux' ? `127.0.1.${number + 1}` : undefined;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
  json(): unknown;
}

/** One request as it is, on a connection of its own: for what no well-behaved client would say. */
export function send(url: string, { method = 'GET', headers = {}, body, signal, from }: Sent = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    // The path as given: URL would tidy it.
    const path = url.slice(url.indexOf(`:${port}`) + port.length + 1) || '/';
    const outgoing = request(
      {
        hostname,
        port,
        path,
        method,
        headers: headers as OutgoingHttpHeaders,
        agent: false,
        ...(signal && { signal }),
        ...(from !== undefined && { localAddress: from }),
      },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () => {
          const whole = Buffer.concat(chunks);
          const text = whole.toString('utf8');
          const { statusCode = 0, headers: received } = incoming;
          resolve({
            status: statusCode,
            headers: received,
            body: whole,
            text,
            json: () => JSON.parse(text) as unknown,
          });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

export interface Conversation {
  readonly socket: Socket;
  /** All that was received by the time the other side has closed. */
  readonly received: Promise<string>;
}

/** Sends bytes over TCP as they are and listens until the other side closes. */
export function converse(port: number, bytes: string | Buffer): Conversation {
  const socket = connect({ port, host: '127.0.0.1' });
  const received = new Promise<string>((resolve) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('utf8')));
  });
  socket.write(bytes);
  return { socket, received };
}

/** Checks that an answer is a whole problem document, and gives it. */
export function expectProblem(answer: Answer, status: number, code: string): Problem & Record<string, unknown> {
  const problem = answer.json() as Problem & Record<string, unknown>;
  expect({ status: answer.status, code: problem.code, detail: problem.detail }).toMatchObject({ status, code });
  expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8');
  expectAsDocumented(problem, 'Problem');
  expect(PROBLEMS[problem.code].status).toBe(status);
  expect(problem).toMatchObject({
    type: `urn:service-faas:problem:${code}`,
    title: expect.stringMatching(/^[A-Z]/) as string,
    status,
    detail: expect.stringMatching(/\S/) as string,
    error: problem.detail,
    request_id: answer.headers['x-request-id'],
  });
  if (status === 429 || status === 503) expect(answer.headers['retry-after']).toMatch(/^[1-9]\d*$/);
  else expect(answer.headers['retry-after']).toBeUndefined();
  return problem;
}

/** A port of loopback that nobody had a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
