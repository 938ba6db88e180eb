import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

describeOnAnyEngine('every answer', (engine) => {
  const stage = Stage.on(engine);
  let id: string;
  beforeAll(async () => {
    ({ id } = await stage.manager.add(ECHO));
  });

  /** Answers of every kind: of controllers, of calls, of documents, good and bad. */
  const ask = async (headers: Record<string, string>) => {
    const { manager } = stage;
    const execute = { method: 'POST', body: '{"payload":"x"}', headers };
    return Promise.all([
      manager.send('/functions', { headers }),
      manager.send(`/functions/${id}/code`, { headers }),
      manager.send('/functions/aaaaaaaaaaaaaaaa', { headers }),
      manager.send('/nowhere', { headers }),
      manager.send('/livez', { headers }),
      manager.send('/docs/doc.json', { headers }),
      manager.send(`/functions/${id}/execute`, execute),
      manager.send('/functions/aaaaaaaaaaaaaaaa/execute', execute),
      manager.send('/functions', { method: 'POST', body: 'x', headers }),
    ]);
  };

  it("carries the caller's request id", async () => {
    for (const given of ['abc', 'A-1_2.3', 'x'.repeat(64), randomUUID()]) {
      for (const answer of await ask({ 'X-Request-Id': given })) expect(answer.headers['x-request-id']).toBe(given);
    }
  });

  it.each(['', ' ', 'two words', 'x'.repeat(65), 'a/b', 'a:b', '<script>', '"quoted"', 'é', 'a,b'])(
    'carries a fresh request id in place of %j',
    async (given) => {
      const ids = (await ask({ 'X-Request-Id': given })).map(({ headers }) => headers['x-request-id'] as string);
      for (const fresh of ids) expect(fresh).toMatch(UUID);
      expect(new Set(ids).size).toBe(ids.length);
    },
  );

  it('carries a fresh request id when two were sent, or none', async () => {
    const headers = ['Host', 'localhost', 'X-Request-Id', 'one', 'X-Request-Id', 'two'];
    expect((await stage.manager.send('/functions', { headers })).headers['x-request-id']).toMatch(UUID);
    for (const answer of await ask({})) expect(answer.headers['x-request-id']).toMatch(UUID);
  });

  it('says nothing of what it is made with', async () => {
    for (const { headers } of await ask({})) {
      expect(headers['x-powered-by']).toBeUndefined();
      expect(headers['server']).toBeUndefined();
    }
  });

  it('stands in the log under its request id', async () => {
    await stage.manager.send('/functions', { headers: { 'X-Request-Id': 'look-for-me' } });
    expect(stage.manager.log).toMatch(/"requestId":"look-for-me".*"path":"\/functions".*"status":200/);
  });

  describe('to what nobody foresaw', () => {
    it('is a 500 without a word about the inside, which the log has under the request id', async () => {
      const { manager } = stage;
      const client = new pg.Client({ connectionString: stage.databaseUrl });
      await client.connect();
      try {
        // Somebody has tampered with the schema: no outage, and nothing the manager could know what to do about.
        await client.query('ALTER TABLE functions RENAME TO misplaced');
        const answers = await Promise.all([
          manager.send('/functions'),
          manager.send(`/functions/${id}`),
          manager.send(`/functions/${id}`, { method: 'DELETE' }),
          manager.send('/functions', { method: 'POST', ...upload(ECHO) }),
          manager.call('bbbbbbbbbbbbbbbb'),
        ]);
        for (const answer of answers) {
          const problem = expectProblem(answer, 500, 'internal_error');
          expect(answer.text).not.toMatch(/relation|misplaced|SELECT|INSERT|typeorm|node_modules|\.ts/i);
          const logged = manager.log.split('\n').filter((line) => line.includes(problem.request_id));
          expect(logged.join('\n')).toMatch(/"level":"error".*relation .*functions.* does not exist/);
        }
      } finally {
        await client.query('ALTER TABLE misplaced RENAME TO functions');
        await client.end();
      }
      expect((await manager.send('/functions')).json()).toHaveLength(1);
    });
  });
});
