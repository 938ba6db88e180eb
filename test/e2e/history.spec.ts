import { randomUUIDv7 } from 'node:crypto';
import { request } from 'node:http';
import { expect, it, vi } from 'vitest';
import type { InvocationDto, LogRecordDto, StatisticsDto } from '../client/index.js';
import { expectAsDocumented } from '../support/document.js';
import { describeOnAnyEngine, describeOnEachEngine } from '../support/engines.js';
import { ECHO, OBEDIENT } from '../support/handlers.js';
import { type Answer, expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

const PATIENCE = { timeout: 60_000, interval: 50 };

function idOf(answer: Answer): string {
  const { 'x-faas-invocation': id } = answer.headers;
  expect(id).toMatch(/^[0-9a-f-]{36}$/);
  return id as string;
}

async function list(manager: TestManager, path: string): Promise<InvocationDto[]> {
  const answer = await manager.send(path);
  expect(answer.status, answer.text).toBe(200);
  for (const one of answer.json() as InvocationDto[]) expectAsDocumented(one, 'InvocationDto');
  return answer.json() as InvocationDto[];
}

async function find(manager: TestManager, id: string): Promise<InvocationDto> {
  const answer = await manager.send(`/invocations/${id}`);
  expect(answer.status, answer.text).toBe(200);
  expectAsDocumented(answer.json(), 'InvocationDto');
  return answer.json() as InvocationDto;
}

function patch(manager: TestManager, id: string, body: object): Promise<Answer> {
  return manager.send(`/functions/${id}`, { method: 'PATCH', body: JSON.stringify(body) });
}

function replay(manager: TestManager, id: string, body: object = {}, key?: string): Promise<Answer> {
  const headers = key === undefined ? {} : { 'Idempotency-Key': key };
  return manager.send(`/invocations/${id}/replay`, { method: 'POST', body: JSON.stringify(body), headers });
}

describeOnEachEngine('the history', (engine) => {
  const stage = Stage.on(engine, { QUEUE_PER_FUNCTION: '1' });

  it('has every call once, of each kind and however it ended', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(OBEDIENT, { concurrency: 1, max_replicas: 1, timeoutMs: 3_000 });
    const fine = await manager.call(id, 'hello');
    expect(fine.status).toBe(200);
    const raised = await manager.call(id, 'raise oh');
    expectProblem(raised, 500, 'handler_error');
    const late = await manager.call(id, 'sleep 60');
    expectProblem(late, 504, 'handler_timeout');
    const crashed = await manager.call(id, 'exit 3');
    expectProblem(crashed, 502, 'worker_crashed');
    await vi.waitFor(async () => expect((await manager.call(id, 'again')).status).toBe(200), PATIENCE);
    const http = await manager.send(`/f/${id}/`, { method: 'POST', body: 'hello' });
    expect(http.status, http.text).toBe(200);

    const calls = await list(manager, `/functions/${id}/invocations`);
    const of = (answer: Answer) => calls.filter((call) => call.id === idOf(answer));
    expect(of(fine)).toMatchObject([
      {
        function_id: id,
        kind: 'execute',
        status: 'succeeded',
        revision: 1,
        request_id: idOf(fine),
        payload_bytes: 19,
        result_bytes: Buffer.byteLength(fine.text),
        error: null,
        http_status: null,
        attempt: 1,
      },
    ]);
    const [first] = of(fine);
    expect(first?.replica).toEqual(expect.any(String));
    expect(first?.handler_ms).toBeGreaterThan(0);
    expect(first?.duration_ms).toBeGreaterThanOrEqual(first?.handler_ms ?? Infinity);
    expect(of(raised)).toMatchObject([
      { status: 'failed', error: { code: 'handler_error', detail: 'ValueError: oh' } },
    ]);
    expect(of(late)).toMatchObject([{ status: 'failed', error: { code: 'handler_timeout' } }]);
    expect(of(late)[0]?.handler_ms).toBeGreaterThan(2_900);
    expect(of(crashed)).toMatchObject([{ status: 'failed', error: { code: 'worker_crashed' } }]);
    expect(of(http)).toMatchObject([{ kind: 'http', status: 'succeeded', http_status: 200, payload_bytes: 5 }]);
    expect(of(http)[0]?.result_bytes).toBe(Buffer.byteLength(http.text));

    await manager.remove(id);
    expectProblem(await manager.send(`/invocations/${idOf(fine)}`), 404, 'invocation_not_found');
  });

  it('tells calls apart whose callers send the same request id', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(ECHO);
    const requestId = randomUUIDv7();
    const send = () => manager.call(id, 'hello', { headers: { 'X-Request-Id': requestId } });
    const ids = [idOf(await send()), idOf(await send())];
    expect(new Set([requestId, ...ids]).size).toBe(3);
    const calls = await list(manager, `/functions/${id}/invocations`);
    expect(calls.map((call) => call.id).toSorted()).toEqual(ids.toSorted());
    expect(calls.map((call) => call.request_id)).toEqual([requestId, requestId]);
  });

  it('has calls that were refused, and those whose callers left', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(OBEDIENT, { concurrency: 1, max_replicas: 1 });
    await manager.call(id, 'hello');
    const leaving = request(`${manager.url}/functions/${id}/execute`, { method: 'POST' });
    leaving.on('error', () => undefined).end('{"payload": "sleep 5"}');
    await vi.waitFor(async () => {
      const { text } = await manager.send('/metrics');
      expect(text).toContain(`faas_calls_in_flight{function="${id}"} 1`);
    }, PATIENCE);
    const waiting = manager.call(id, 'waited');
    await vi.waitFor(async () => {
      const { text } = await manager.send('/metrics');
      expect(text).toContain(`faas_calls_waiting{function="${id}"} 1`);
    }, PATIENCE);
    const refused = await manager.call(id, 'too many');
    expectProblem(refused, 429, 'function_overloaded');
    leaving.destroy();
    expect((await waiting).status).toBe(200);
    await vi.waitFor(async () => {
      const calls = await list(manager, `/functions/${id}/invocations`);
      const shown = calls.map(({ status, error, revision }) => `${status} ${error?.code ?? ''} ${revision}`);
      expect(shown.toSorted()).toEqual(
        ['succeeded  1', 'succeeded  1', 'cancelled call_cancelled 1', 'failed function_overloaded null'].toSorted(),
      );
    }, PATIENCE);
    const filtered = async (query: string) =>
      (await list(manager, `/functions/${id}/invocations?${query}`)).map(({ status }) => status);
    expect(await filtered('status=failed')).toEqual(['failed']);
    expect(await filtered('status=cancelled&kind=execute')).toEqual(['cancelled']);
    expect(await filtered('code=function_overloaded')).toEqual(['failed']);
    expect(await filtered('kind=http')).toEqual([]);
    expect(await filtered('revision=2')).toEqual([]);
    expect(await filtered(`until=${new Date(0).toISOString()}`)).toEqual([]);
    for (const query of ['status=lost', 'kind=magic', 'revision=0', 'code=A%20B']) {
      expectProblem(await manager.send(`/functions/${id}/invocations?${query}`), 400, 'invalid_page');
    }
    await manager.remove(id);
  });
});

describeOnAnyEngine('the history of functions', (engine) => {
  const stage = Stage.on(engine);

  it('has attempts of calls for later with those, and pages over all kinds', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(OBEDIENT);
    const body = JSON.stringify({ payload: 'raise oh', max_attempts: 2, backoff_ms: 1 });
    const later = (
      await manager.send(`/functions/${id}/invocations`, { method: 'POST', body })
    ).json() as InvocationDto;
    for (let n = 0; n < 5; n += 1) await manager.call(id, `call-${n}`);
    const dead = await vi.waitFor(async () => {
      const found = await find(manager, later.id);
      expect(found.status).toBe('dead');
      expect(found.attempts).toHaveLength(2);
      return found;
    }, PATIENCE);
    expect(dead).toMatchObject({
      kind: 'later',
      attempts: [
        { attempt: 2, status: 'failed', code: 'handler_error', detail: 'ValueError: oh', revision: 1 },
        { attempt: 1, status: 'failed' },
      ],
    });
    const seen: string[] = [];
    for (let path: string | undefined = `/functions/${id}/invocations?limit=2`; path !== undefined;) {
      const answer = await manager.send(path);
      seen.push(...(answer.json() as InvocationDto[]).map(({ id: one }) => one));
      path = /^<(.*)>; rel="next"$/.exec(String(answer.headers['link'] ?? ''))?.[1];
      // What comes meanwhile is on none of the pages that follow.
      await manager.call(id, 'meanwhile');
    }
    expect(seen).toHaveLength(6);
    expect(seen).toEqual(seen.toSorted().toReversed());
    expect(seen.at(-1)).toBe(later.id);
    expect(await list(manager, `/functions/${id}/invocations?kind=later`)).toMatchObject([{ id: later.id }]);
    expect(await list(manager, `/functions/${id}/invocations?kind=later&code=handler_error`)).toHaveLength(1);
    expect(await list(manager, `/functions/${id}/invocations?code=handler_timeout`)).toEqual([]);
    expectProblem(await manager.send(`/invocations/${seen[0]}`, { method: 'DELETE' }), 409, 'invocation_ended');
    await manager.remove(id);
  });

  it('has runs, which nothing else is left of', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const headers = { 'Content-Type': 'application/json' };
    const run = { function_name: 'handle', code: OBEDIENT, payload: 'raise oh' };
    expectProblem(
      await manager.send('/runs', { method: 'POST', headers, body: JSON.stringify(run) }),
      500,
      'handler_error',
    );
    const [listed] = await list(manager, '/runs?status=failed&limit=1');
    expect(listed).toMatchObject({ kind: 'run', status: 'failed', error: { code: 'handler_error' }, revision: 1 });
    const found = await find(manager, listed?.id ?? '');
    expect(found).toMatchObject({ id: listed?.id, request_id: listed?.request_id });
    expectProblem(await replay(manager, found.id), 409, 'replay_impossible');
    expectProblem(await manager.send(`/invocations/${found.id}/logs`), 404, 'log_not_kept');
    expectProblem(await manager.send('/runs?kind=run'), 400, 'invalid_request');
  });

  it(
    'keeps payloads and results only where it is asked for, without what nobody is to read',
    { timeout: 120_000 },
    async () => {
      const { manager } = stage;
      const { id } = await manager.add(ECHO);
      const payload = JSON.stringify({ name: 'Ada', login: { password: 'hidden', pin: 'secret-pin' } });
      const call = async (given = payload) => find(manager, idOf(await manager.call(id, given)));
      expect(await call()).not.toHaveProperty('payload');

      const changed = await patch(manager, id, { history: { payloads: 1, redact: ['pin', 'password'] } });
      expect(changed.json()).toMatchObject({ history: { payloads: 1, redact: ['pin', 'password'] } });
      const kept = await call();
      const shown = JSON.stringify({ name: 'Ada', login: { password: '[redacted]', pin: '[redacted]' } });
      expect(kept).toMatchObject({ payload: shown, result: shown });
      expectProblem(await replay(manager, kept.id), 409, 'replay_impossible');
      expect(await call('a'.repeat(70_000))).not.toHaveProperty('payload');
      const { json: rows } = await manager.send(`/functions/${id}/invocations`);
      expect(JSON.stringify(rows())).not.toContain('hidden');

      expect((await patch(manager, id, { history: { redact: null } })).json()).toMatchObject({
        history: { payloads: 1 },
      });
      expect(await call('{"Api-Key": 1}')).toMatchObject({ payload: '{"Api-Key":"[redacted]"}' });
      expect((await patch(manager, id, { history: null })).json()).toMatchObject({ history: {} });
      expect(await call()).not.toHaveProperty('payload');
      for (const history of [
        { payloads: 2 },
        { payloads: '1' },
        { redact: 'a' },
        { redact: [''] },
        { keep: 1 },
        'all',
      ]) {
        const problem = expectProblem(await patch(manager, id, { history }), 400, 'invalid_update');
        expect(problem['field']).toBe('history');
      }
      await manager.remove(id);
    },
  );

  it('replays calls by the same revision and by the newest', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add('def handle(payload):\n    return ["first", payload]\n', {
      history: '{"payloads": 1}',
    });
    const once = idOf(await manager.call(id, 'Ada'));
    const enqueued = await manager.send(`/functions/${id}/invocations`, {
      method: 'POST',
      body: '{"payload": "later", "priority": "high"}',
    });
    const { id: later } = enqueued.json() as InvocationDto;
    await vi.waitFor(async () => expect(await find(manager, later)).toMatchObject({ status: 'succeeded' }), PATIENCE);
    const ran = async (answer: Answer) => {
      expect(answer.status, answer.text).toBe(202);
      const { id: anew } = answer.json() as InvocationDto;
      expect(answer.headers['location']).toBe(`/invocations/${anew}`);
      return vi.waitFor(async () => {
        const found = await find(manager, anew);
        expect(found.status).toBe('succeeded');
        return found;
      }, PATIENCE);
    };
    expect(await ran(await replay(manager, once, { revision: 'same' }))).toMatchObject({ result: ['first', 'Ada'] });
    const second = await manager.send(`/functions/${id}/revisions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ code: 'def handle(payload):\n    return ["second", payload]\n' }),
    });
    expect(second.status, second.text).toBe(201);
    expect(await ran(await replay(manager, once))).toMatchObject({ result: ['second', 'Ada'], revision: 2 });
    expect(await ran(await replay(manager, later))).toMatchObject({
      result: ['second', 'later'],
      priority: 'high',
      revision: 2,
    });
    expectProblem(await replay(manager, later, { revision: 'same' }), 409, 'revision_without_traffic');
    const keyed = await Promise.all(Array.from({ length: 4 }, () => replay(manager, later, {}, 'again-1')));
    const anew = await Promise.all(keyed.map(ran));
    expect(new Set(anew.map((one) => one.id)).size).toBe(1);
    expect(anew[0]).toMatchObject({ idempotency_key: 'again-1', result: ['second', 'later'] });
    expect(keyed.filter(({ headers }) => headers['idempotency-replayed'] === undefined)).toHaveLength(1);
    expectProblem(await replay(manager, once, {}, 'again-1'), 409, 'idempotency_key_reused');
    expectProblem(await replay(manager, later, {}, 'no key'), 400, 'invalid_invocation');
    expectProblem(await replay(manager, later, { revision: 'former' }), 400, 'invalid_invocation');
    expectProblem(await replay(manager, later, { version: 1 }), 400, 'invalid_invocation');
    const http = await manager.send(`/f/${id}/`, { method: 'POST', body: 'x' });
    expectProblem(await replay(manager, idOf(http)), 409, 'replay_impossible');
    await patch(manager, id, { history: null });
    const problem = expectProblem(await replay(manager, idOf(await manager.call(id, 'x'))), 409, 'replay_impossible');
    expect(problem['detail']).toContain('{"history": {"payloads": 1}}');
    expect(manager.log).toContain('"action":"replay"');
    await manager.remove(id);
  });

  it('tells how calls went, by the minute', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(OBEDIENT);
    for (let n = 0; n < 8; n += 1) await manager.call(id, 'hello');
    for (let n = 0; n < 2; n += 1) await manager.call(id, 'raise oh');
    await manager.call(id, 'sleep 0.5');
    const statistics = async (query = '') => {
      const answer = await manager.send(`/functions/${id}/statistics${query}`);
      expect(answer.status, answer.text).toBe(200);
      expectAsDocumented(answer.json(), 'StatisticsDto');
      return answer.json() as StatisticsDto;
    };
    const told = await statistics();
    expect(told).toMatchObject({ function_id: id, step_ms: 60_000, calls: 11, errors: 2, cancelled: 0 });
    expect(Date.parse(told.until) - Date.parse(told.since)).toBe(3_600_000);
    expect(told.steps.reduce((sum, { calls }) => sum + calls, 0)).toBe(11);
    expect(told.p50_ms).toBeLessThan(400);
    expect(told.p99_ms).toBeGreaterThan(400);
    expect(await statistics('?window=7d')).toMatchObject({ step_ms: 3_600_000, calls: 11 });
    expect(await statistics('?window=1d&revision=2')).toMatchObject({ calls: 0, p50_ms: null, steps: [] });
    for (const query of ['?window=1', '?window=0m', '?window=32d', '?window=1y', '?revision=x', '?windows=1h']) {
      expectProblem(await manager.send(`/functions/${id}/statistics${query}`), 400, 'invalid_request');
    }
    expectProblem(await manager.send('/functions/nobody/statistics'), 404, 'function_not_found');
    await manager.remove(id);
  });

  it('prints what a call has printed', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add('def handle(payload):\n    print("saw", payload, flush=True)\n');
    await manager.call(id, 'nobody');
    const answer = await manager.call(id, 'somebody');
    await vi.waitFor(async () => {
      const { text } = await manager.send(`/invocations/${idOf(answer)}/logs`);
      const records = text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as LogRecordDto);
      expect(records.filter(({ source }) => source === 'handler').map(({ line }) => line)).toEqual(['saw somebody']);
    }, PATIENCE);
    await manager.remove(id);
  });
});

describeOnAnyEngine('a history that is off', (engine) => {
  const stage = Stage.on(engine, { HISTORY: 'off' });

  it('has calls for later only, and costs answers no header', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(ECHO);
    const answer = await manager.call(id, 'x');
    expect(answer.headers).not.toHaveProperty('x-faas-invocation');
    const later = await manager.send(`/functions/${id}/invocations`, { method: 'POST', body: '{"payload": "x"}' });
    const { id: kept } = later.json() as InvocationDto;
    expect(await list(manager, `/functions/${id}/invocations`)).toMatchObject([{ id: kept, kind: 'later' }]);
    expect((await manager.send(`/functions/${id}/statistics`)).json()).toMatchObject({ calls: 0, steps: [] });
    await manager.remove(id);
  });
});

describeOnAnyEngine('a history whose database goes away', (engine) => {
  const stage = Stage.withOwnServer(engine);

  it('costs no call anything, and has them once it is back', { timeout: 120_000 }, async () => {
    const { manager, postgres } = stage;
    const { id } = await manager.add(ECHO);
    expect((await manager.call(id, 'before')).status).toBe(200);
    await postgres.kill();
    const during = await Promise.all(Array.from({ length: 50 }, () => manager.call(id, 'during')));
    expect(during.map(({ status }) => status)).toEqual(during.map(() => 200));
    await postgres.restart();
    await vi.waitFor(async () => {
      const calls = await list(manager, `/functions/${id}/invocations?limit=100`);
      expect(calls.map((call) => call.id)).toEqual(expect.arrayContaining(during.map((answer) => idOf(answer))));
      expect(new Set(calls.map((call) => call.id)).size).toBe(51);
      expect(calls).toHaveLength(51);
    }, PATIENCE);
    await manager.remove(id);
  });
});
