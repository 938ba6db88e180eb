import { AppError } from '#libs/errors/app-error.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isResult, meaningOf } from './worker-answer.js';

const meaning = (status: number, body: unknown) =>
  meaningOf(status, Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), 5_000);

describe('meaningOf', () => {
  it('sends a call that a leaving worker refused elsewhere', () => {
    expect(meaning(503, { detail: 'leaving', error: { code: 'worker_draining' } })).toBe('refused');
    expect(meaning(421, { detail: 'elsewhere', error: { code: 'worker_misdirected' } })).toBe('refused');
  });

  it('tells of a handler that raised, with Python’s type, message and traceback', () => {
    const error = { code: 'handler_error', type: 'ValueError', message: 'no', traceback: 'Traceback' };
    expect(meaning(400, { detail: 'x', error })).toMatchObject({
      code: 'handler_error',
      message: 'ValueError: no',
      extras: { python_type: 'ValueError', python_message: 'no', traceback: 'Traceback' },
    });
    expect(meaning(400, { error: { code: 'handler_error', type: 'KeyError', message: '' } })).toMatchObject({
      message: 'KeyError',
    });
    expect(meaning(400, { detail: 'it raised', error: { code: 'handler_error' } })).toMatchObject({
      message: 'it raised',
      extras: { python_type: null, traceback: null },
    });
  });

  it('takes what a worker refuses of the body for the caller’s fault', () => {
    expect(meaning(422, { detail: 'too deep' })).toMatchObject({ code: 'invalid_payload', kind: 'invalid' });
    expect(meaning(413, { detail: 'too large' })).toMatchObject({ code: 'payload_too_large', kind: 'too_large' });
  });

  it('tells a time limit and a result that is not JSON apart', () => {
    const timeout = meaning(504, { error: { code: 'handler_timeout' } });
    expect(timeout).toMatchObject({ code: 'handler_timeout', extras: { timeout_ms: 5_000 } });
    const invalid = meaning(500, { error: { code: 'handler_result_invalid', message: 'a set' } });
    expect(invalid).toMatchObject({ code: 'handler_result_invalid', message: 'a set', extras: {} });
  });

  it('tells which part of a result is not JSON, and its type', () => {
    const error = { code: 'handler_result_invalid', type: 'float', message: 'rows[1].bad is nan', path: 'rows[1].bad' };
    expect(meaning(500, { detail: 'not JSON: rows[1].bad is nan', error })).toMatchObject({
      message: 'not JSON: rows[1].bad is nan',
      extras: { path: 'rows[1].bad', python_type: 'float' },
    });
  });

  it.each([
    [400, { detail: 'Error: x' }, 'handler_error', 'Error: x'],
    [500, 'Internal Server Error', 'handler_result_invalid', 'Internal Server Error'],
    [404, '<html>', 'handler_error', 'The worker answered 404: <html>'],
  ])('understands plain images that answer %d', (status, body, code, told) => {
    const error = meaning(status, body);
    expect(error).toMatchObject({ code, message: expect.stringContaining(told) as string });
  });

  it('makes an error with a short message of whatever a worker answers', () => {
    fc.assert(
      fc.property(fc.integer({ min: 201, max: 599 }), fc.oneof(fc.json(), fc.string()), (status, body) => {
        expect(meaning(status, body)).toBeInstanceOf(AppError);
      }),
    );
    expect((meaning(418, 'x'.repeat(100_000)) as AppError).message.length).toBeLessThan(600);
  });

  it('parses no more than 64 KiB of what a worker says of a failure, and shows how the rest begins', () => {
    const costly = `{"detail":"x","more":[${'{"9":0},'.repeat(1_000_000)}0]}`;
    const start = performance.now();
    const error = meaning(400, costly) as AppError;
    expect(performance.now() - start).toBeLessThan(100);
    expect(error).toMatchObject({ code: 'handler_error', message: expect.stringMatching(/^\{"detail":"x"/) as string });
    expect(error.message).toContain('more than 65536 bytes');
  });
});

describe('isResult', () => {
  it.each(['{"result":1}', '{"result": null}', '{ "result" : [] }', '{"more":1,"result":2}'])('takes %j', (body) => {
    expect(isResult(Buffer.from(body))).toBe(true);
  });

  it.each(['', 'hello', '[]', 'null', '{}', '{"results":1}', '{"result":1'])('refuses %j', (body) => {
    expect(isResult(Buffer.from(body))).toBe(false);
  });

  it('tells a large one by how it begins and ends', () => {
    const many = `[${'{"9":0},'.repeat(1_000_000)}0]`;
    const bodies = [
      `{ "result": ${many} }\n`,
      `{"more": "x", "result": ${many}}`,
      `{ "result": ${many}`,
      `{"more": ${many}, "result": 1}`,
      `{"more": {"result": ${many}}}`,
    ].map((body) => Buffer.from(body));
    const start = performance.now();
    expect(bodies.map((body) => isResult(body))).toEqual([true, true, false, false, false]);
    expect(performance.now() - start).toBeLessThan(200);
  });
});
