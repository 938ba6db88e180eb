import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, vi } from 'vitest';
import type { InvocationDto } from '../client/index.js';
import { expectAsDocumented } from './document.js';
import type { Answer, Sent } from './http.js';
import type { TestManager } from './manager.js';

export type Invocation = InvocationDto;

export const PATIENCE = { timeout: 60_000, interval: 20 };

export function later(manager: TestManager, ref: string, body: object, sent: Sent = {}, query = ''): Promise<Answer> {
  return manager.send(`/functions/${ref}/invocations${query}`, { method: 'POST', body: JSON.stringify(body), ...sent });
}

export async function accepted(manager: TestManager, ref: string, body: object, sent: Sent = {}): Promise<Invocation> {
  const answer = await later(manager, ref, body, sent);
  expect(answer.status, answer.text).toBe(202);
  const invocation = answer.json() as Invocation;
  expect(answer.headers['location']).toBe(`/invocations/${invocation.id}`);
  expectAsDocumented(invocation, 'InvocationDto');
  return invocation;
}

export async function read(manager: TestManager, id: string): Promise<Invocation> {
  const answer = await manager.send(`/invocations/${id}`);
  expect(answer.status, answer.text).toBe(200);
  expectAsDocumented(answer.json(), 'InvocationDto');
  return answer.json() as Invocation;
}

export function until(manager: TestManager, id: string, wanted: object): Promise<Invocation> {
  return vi.waitFor(async () => {
    const invocation = await read(manager, id);
    expect(invocation).toMatchObject(wanted);
    return invocation;
  }, PATIENCE);
}

export interface Told {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** What is told of ended calls; `answers` are given one after the other, the last one again and again. */
export async function listener(
  answers: readonly number[],
): Promise<{ url: string; told: Told[]; close: () => Promise<void> }> {
  const told: Told[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      told.push({ headers: request.headers, body: Buffer.concat(chunks) });
      const status = answers[told.length - 1] ?? answers.at(-1) ?? 200;
      // One that hangs is let go at its end.
      if (status > 0) response.writeHead(status, { Location: '/elsewhere' }).end('x'.repeat(100_000));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/hook`,
    told,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
