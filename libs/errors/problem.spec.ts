import { BadRequestException, InternalServerErrorException, NotFoundException } from '@nestjs/common';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { AppError, type ErrorKind } from './app-error.js';
import { DatabaseUnavailable, InternalError, RouteNotFound, Unauthorized } from './errors.js';
import { asAppError } from './problem.filter.js';
import { problemOf, sendProblem } from './problem.js';
import { requestIdOf } from './request-id.js';

class Sample extends AppError {
  readonly code = 'invalid_upload';
  constructor(readonly kind: ErrorKind) {
    super('It went wrong.', { cause: new Error('the secret cause'), extras: { field: 'name' } });
  }
}

describe('problemOf', () => {
  it('writes the document of RFC 9457, with the sentence twice and what belongs to it', () => {
    expect(problemOf(new Sample('conflict'), 'id-1')).toEqual({
      type: 'urn:service-faas:problem:invalid_upload',
      title: 'Invalid upload',
      status: 409,
      detail: 'It went wrong.',
      error: 'It went wrong.',
      code: 'invalid_upload',
      request_id: 'id-1',
      field: 'name',
    });
  });

  it.each([
    ['invalid', 400],
    ['unauthorized', 401],
    ['forbidden', 403],
    ['not_found', 404],
    ['conflict', 409],
    ['precondition_failed', 412],
    ['too_large', 413],
    ['unsupported', 415],
    ['unprocessable', 422],
    ['saturated', 429],
    ['failed', 500],
    ['crashed', 502],
    ['unavailable', 503],
    ['timed_out', 504],
  ] as const)('answers %s with %d', (kind, status) => expect(problemOf(new Sample(kind), '').status).toBe(status));

  it('never shows a cause', () => {
    expect(JSON.stringify(problemOf(new Sample('failed'), ''))).not.toContain('secret');
    expect(JSON.stringify(problemOf(new InternalError(new Error('secret')), ''))).not.toContain('secret');
  });
});

describe('sendProblem', () => {
  async function answerOf(respond: (response: ServerResponse) => void): Promise<Response> {
    const server = createServer((_, response) => respond(response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
      return new Response(await response.text(), { status: response.status, headers: response.headers });
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }

  it('answers type, request id and when to try again', async () => {
    const answer = await answerOf((response) => sendProblem(response, new DatabaseUnavailable('x'), 'id-2'));
    expect(answer.status).toBe(503);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(answer.headers.get('retry-after')).toBe('5');
    expect(answer.headers.get('x-request-id')).toBe('id-2');
    expect(await answer.json()).toMatchObject({ code: 'database_unavailable', request_id: 'id-2' });
  });

  it('says how to authenticate', async () => {
    const answer = await answerOf((response) => sendProblem(response, new Unauthorized(), ''));
    expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer/);
  });

  it('cuts an answer that has begun, so that nobody takes it for whole', async () => {
    const cut = answerOf((response) => {
      response.writeHead(200, { 'Content-Length': 10 });
      response.write('half', () => sendProblem(response, new Unauthorized(), ''));
    });
    await expect(cut).rejects.toThrow();
  });
});

describe('asAppError', () => {
  it.each([
    [new Unauthorized(), 'unauthorized'],
    [new NotFoundException(), 'route_not_found'],
    [new BadRequestException('bad'), 'invalid_request'],
    [new InternalServerErrorException('inside'), 'internal_error'],
    [new TypeError('undefined is not a function'), 'internal_error'],
    ['a string', 'internal_error'],
    [undefined, 'internal_error'],
  ])('makes of %s a %s', (thrown, code) => expect(asAppError(thrown, 'GET', '/x').code).toBe(code));

  it('takes a path that can’t be decoded for one that leads nowhere', () => {
    expect(asAppError(new BadRequestException('bad'), 'GET', '/functions/%').code).toBe('route_not_found');
  });

  it('shows no more of a path than a line', () => {
    expect(new RouteNotFound('GET', `/${'x'.repeat(9_000)}`).message.length).toBeLessThan(300);
  });
});

describe('requestIdOf', () => {
  const request = (id?: string) => ({ headers: id === undefined ? {} : { 'x-request-id': id } }) as IncomingMessage;

  it.each(['a', 'A-1.b_c', 'x'.repeat(64)])('keeps the caller’s %s', (id) => expect(requestIdOf(request(id))).toBe(id));

  it.each([undefined, '', 'x'.repeat(65), 'two words', 'line\nbreak', '\u001b[31m', 'a/b', 'é', '{"a":1}', 'a, b'])(
    'replaces %j by a fresh one, the same for every question',
    (id) => {
      const asked = request(id);
      const fresh = requestIdOf(asked);
      expect(fresh).toMatch(/^[0-9a-f-]{36}$/);
      expect(requestIdOf(asked)).toBe(fresh);
      expect(requestIdOf(request(id))).not.toBe(fresh);
    },
  );
});
