import { expect, it } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

const KEY = 'a-key-of-this-suite';

const ECHO = `
import base64

def handle(payload, context):
    return {
        "method": context.method,
        "path": context.path,
        "query": context.query_string,
        "headers": dict(context.headers),
        "body": base64.b64encode(context.body).decode(),
        "revision": context.revision,
        "attempt": context.attempt,
        "remaining": context.remaining_ms(),
    }
`;

interface Echo {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly revision: number;
  readonly attempt: number;
  readonly remaining: number;
}

describeOnAnyEngine('an HTTP call', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: KEY });
  const keyed = (headers: Record<string, string> = {}) => ({ 'X-Api-Key': KEY, ...headers });

  /** A function, with what users say of it. */
  const added = async (code: string, said: object = {}, upload: Parameters<TestManager['add']>[1] = {}) => {
    const { id } = await stage.manager.add(code, upload);
    const sent = { method: 'PATCH', headers: keyed(), body: JSON.stringify(said) };
    expect((await stage.manager.send(`/functions/${id}`, sent)).status).toBe(200);
    return id;
  };

  it('hands method, path, query, headers and any bytes to the handler', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const id = await added(ECHO, { name: 'echo' });
    const body = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    for (const reference of ['echo', id]) {
      const answer = await manager.send(`/f/${reference}/a%20b/c?x=1&y=%2F&x=2`, {
        method: 'PUT',
        headers: keyed({ 'Content-Type': 'image/png', 'X-Mine': 'yes', 'X-Faas-Revision': '1' }),
        body,
      });
      expect(answer.status, answer.text).toBe(200);
      expect(answer.headers).toMatchObject({ 'content-type': 'application/json', 'x-faas-revision': '1' });
      const echo = answer.json() as Echo;
      expect(echo).toMatchObject({ method: 'PUT', path: '/a b/c', query: 'x=1&y=%2F&x=2', revision: 1, attempt: 1 });
      expect(echo.body).toBe(body.toString('base64'));
      expect(echo.headers).toMatchObject({
        'content-type': 'image/png',
        'x-mine': 'yes',
        'x-forwarded-for': '127.0.0.1',
      });
    }
    expectProblem(await manager.send('/f/nobody', { headers: keyed() }), 404, 'function_not_found');
  });
});
