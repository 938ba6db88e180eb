import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, it, vi } from 'vitest';
import type { Access } from '../auth/access.js';
import { publicAhead } from '../http/server.js';
import { HttpCalls, type HttpTarget } from './http-calls.js';
import type { Route, Router } from './router.js';

const target = (reference: string): HttpTarget => ({ reference, root: `/f/${reference}`, target: '/' });
const REQUEST = { method: 'GET', url: '/f/shop', headers: {} } as IncomingMessage;

/** Of functions that nobody has called yet; their rows come when `found` says so. */
function unknown({ isStranger = true } = {}) {
  const found = Promise.withResolvers<Pick<Route, 'isPublic'>>();
  const route = vi.fn(() => found.promise);
  const router = { knownRoute: () => undefined, route } as unknown as Router;
  const access = { isStranger: () => isStranger } as unknown as Access;
  const limits = { payloadBytes: 1, streamIdleMs: 1 } as never;
  const calls = new HttpCalls(
    {} as never,
    router,
    access,
    {} as never,
    {} as never,
    limits,
    { functionsDomain: '' },
    {} as never,
  );
  return { calls, route, found };
}

describe('Whether everybody may call a function', () => {
  it('is looked up once for all who ask at a time', async () => {
    const { calls, route, found } = unknown();
    const answers = Array.from({ length: 100 }, () => calls.isPublic(target('shop'), REQUEST));
    expect(route).toHaveBeenCalledTimes(1);
    found.resolve({ isPublic: true });
    expect(new Set(await Promise.all(answers.map((answer) => Promise.resolve(answer))))).toEqual(new Set([true]));
  });

  it('is looked up for a few functions at once; further strangers are asked to come back', async () => {
    const { calls, found } = unknown();
    const answers = Array.from({ length: 16 }, (_, n) => calls.isPublic(target(`shop-${n}`), REQUEST));
    const refusal = { code: 'manager_overloaded', kind: 'saturated', retryAfterSeconds: 1 };
    expect(() => calls.isPublic(target('shop-16'), REQUEST)).toThrow(expect.objectContaining(refusal));
    expect(calls.isPublic(target('shop-3'), REQUEST)).toBe(answers[3]);
    found.resolve({ isPublic: false });
    await Promise.all(answers.map((answer) => Promise.resolve(answer)));
    expect(calls.isPublic(target('shop-16'), REQUEST)).toBeInstanceOf(Promise);
  });

  it('does not matter to who shows a key, and is not waited for by those then', () => {
    const { calls } = unknown({ isStranger: false });
    for (let n = 0; n < 16; n += 1) void calls.isPublic(target(`shop-${n}`), REQUEST);
    expect(calls.isPublic(target('shop-16'), REQUEST)).toBe(false);
  });
});

describe('publicAhead', () => {
  it('makes no call whose caller has left while it was looked up', async () => {
    const isPublic = Promise.withResolvers<boolean>();
    const handle = vi.fn();
    const others = vi.fn();
    const calls = { targetOf: () => target('shop'), isPublic: () => isPublic.promise, handle };
    const response = { destroyed: false };
    const listener = publicAhead(calls as unknown as HttpCalls, others);
    listener(REQUEST, response as ServerResponse<IncomingMessage> & { req: IncomingMessage });
    response.destroyed = true;
    isPublic.resolve(true);
    await isPublic.promise;
    await new Promise((resolve) => setImmediate(resolve));
    expect(handle).not.toHaveBeenCalled();
    expect(others).not.toHaveBeenCalled();
  });
});
