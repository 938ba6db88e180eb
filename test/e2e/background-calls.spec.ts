import { createHmac, randomBytes } from 'node:crypto';
import { expect, it, vi } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO, OBEDIENT } from '../support/handlers.js';
import { type Answer, expectProblem } from '../support/http.js';
import { accepted, type Invocation, later, listener, PATIENCE, read, until } from '../support/invocations.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

async function list(manager: TestManager, ref: string, query = ''): Promise<Invocation[]> {
  const answer = await manager.send(`/functions/${ref}/invocations${query}`);
  expect(answer.status, answer.text).toBe(200);
  return answer.json() as Invocation[];
}

describeOnAnyEngine('calls for later', (engine) => {
  const stage = Stage.on(engine, { INVOCATIONS_RESULT_BYTES: '65536' });
  const here = () => stage.manager;
  const add = (code: string, settings: Parameters<TestManager['add']>[1] = {}) => here().add(code, settings);

  it('run, and their results can be read', async () => {
    const { id } = await add(OBEDIENT, { name: 'handle' });
    const first = await accepted(here(), id, { payload: 'return {"a": [1, None]}' });
    expect(first).toMatchObject({ function_id: id, status: 'waiting', attempt: 0, enqueued_revision: 1, error: null });
    const ended = await until(here(), first.id, { status: 'succeeded' });
    expect(ended).toMatchObject({ attempt: 1, revision: 1, result: { a: [1, null] }, result_bytes: 25, error: null });
    expect(Date.parse(ended.ended_at ?? '')).toBeGreaterThanOrEqual(Date.parse(ended.started_at ?? ''));
    await here().remove(id);
  });

  it('wake a function that sleeps', async () => {
    const { id } = await add(ECHO, { idle_timeout_ms: 200 });
    await vi.waitFor(async () => {
      expect((await here().send(`/functions/${id}`)).json()).toMatchObject({ status: 'idle' });
    }, PATIENCE);
    const { id: call } = await accepted(here(), id, { payload: 'good morning' });
    await until(here(), call, { status: 'succeeded', result: 'good morning' });
    await here().remove(id);
  });

  it('take payloads of any text and size', async () => {
    const { id } = await add('def handle(payload):\n    return [len(payload), payload[:3]]\n');
    const long = randomBytes(120_000).toString('base64');
    const payloads = ['', '\0"\\\u{1F600}', long, `"${'\\"'.repeat(40_000)}`];
    for (const payload of payloads) {
      const { id: call, payload_bytes } = await accepted(here(), id, { payload, priority: 'high' });
      expect(payload_bytes).toBe(Buffer.byteLength(payload));
      const characters = [...payload];
      await until(here(), call, {
        status: 'succeeded',
        result: [characters.length, characters.slice(0, 3).join('')],
      });
    }
    await here().remove(id);
  });

  it('keep no result that is larger than may be, and say how large it was', async () => {
    const { id } = await add(OBEDIENT);
    const { id: call } = await accepted(here(), id, { payload: 'return "x" * 100000' });
    const ended = await until(here(), call, { status: 'succeeded', result_bytes: 100_013 });
    expect(ended).not.toHaveProperty('result');
    await here().remove(id);
  });

  it('are tried again after a failure, and are dead letters after the last one', async () => {
    const { id } = await add(OBEDIENT);
    const body = { payload: 'raise oh', max_attempts: 3, backoff_ms: 1 };
    const { id: call } = await accepted(here(), id, body);
    const dead = await until(here(), call, { status: 'dead' });
    expect(dead).toMatchObject({
      attempt: 3,
      max_attempts: 3,
      error: { code: 'handler_error', detail: 'ValueError: oh' },
    });
    expect(await list(here(), id, '?status=dead')).toMatchObject([{ id: call }]);
    await here().remove(id);
  });

  it('are not tried again after a failure of another kind than those they name', async () => {
    const { id } = await add(OBEDIENT, { timeoutMs: 300 });
    const of = async (payload: string, retry_on: string[]) =>
      (await accepted(here(), id, { payload, max_attempts: 2, backoff_ms: 1, retry_on })).id;
    const raised = await of('raise oh', ['timeout', 'crash']);
    await until(here(), raised, { status: 'dead', attempt: 1, error: { code: 'handler_error' } });
    const slept = await of('sleep 20', ['error']);
    await until(here(), slept, { status: 'dead', attempt: 1, error: { code: 'handler_timeout' } });
    const { id: patient } = await add(OBEDIENT);
    const crash = { payload: 'exit 3', max_attempts: 2, backoff_ms: 1, retry_on: ['crash'] };
    const { id: crashed } = await accepted(here(), patient, crash);
    await until(here(), crashed, { status: 'dead', attempt: 2, error: { code: 'worker_crashed' } });
    await Promise.all([here().remove(id), here().remove(patient)]);
  });

  it('wait for their time', async () => {
    const { id } = await add(ECHO);
    const { id: soon, due_at } = await accepted(here(), id, { payload: 'soon', delay_ms: 1_500 });
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
    const { id: far } = await accepted(here(), id, { payload: 'far', not_before: tomorrow });
    const ended = await until(here(), soon, { status: 'succeeded' });
    expect(Date.parse(ended.started_at ?? '')).toBeGreaterThanOrEqual(Date.parse(due_at));
    expect(await read(here(), far)).toMatchObject({ status: 'waiting', attempt: 0 });
    await here().remove(id);
  });

  it('are refused as calls at once are', async () => {
    const { id } = await add(ECHO);
    const refused = async (body: string, status: number, code: string, field?: string) => {
      const problem = expectProblem(
        await here().send(`/functions/${id}/invocations`, { method: 'POST', body }),
        status,
        code,
      );
      if (field !== undefined) expect(problem['field']).toBe(field);
    };
    await refused('', 400, 'invalid_payload');
    await refused('{"payload": 1}', 400, 'invalid_payload');
    await refused('{"payload": "", "dely_ms": 1}', 400, 'invalid_payload', 'dely_ms');
    await refused('{"payload": "", "delay_ms": -1}', 400, 'invalid_invocation', 'delay_ms');
    await refused('{"payload": "", "not_before": "tomorrow"}', 400, 'invalid_invocation', 'not_before');
    await refused('{"payload": "", "not_before": "2126-01-01T00:00:00Z"}', 400, 'invalid_invocation', 'not_before');
    await refused('{"payload": "", "priority": 1}', 400, 'invalid_invocation', 'priority');
    await refused('{"payload": "", "retry_on": ["luck"]}', 400, 'invalid_invocation', 'retry_on');
    await refused('{"payload": "", "max_attempts": 0}', 400, 'invalid_invocation', 'max_attempts');
    await refused(JSON.stringify({ payload: 'x'.repeat(7 * 1024 * 1024) }), 413, 'payload_too_large');
    expectProblem(await later(here(), 'nobody', { payload: '' }), 404, 'function_not_found');
    expectProblem(await later(here(), id, { payload: '' }, {}, '?revision=7'), 409, 'revision_without_traffic');
    expectProblem(
      await later(here(), id, { payload: '' }, { headers: { 'Idempotency-Key': 'a b' } }),
      400,
      'invalid_invocation',
    );
    await here().send(`/functions/${id}`, { method: 'PATCH', body: '{"enabled": false}' });
    expectProblem(await later(here(), id, { payload: '' }), 409, 'function_disabled');
    expect(await list(here(), id)).toEqual([]);
    await here().remove(id);
    expectProblem(await later(here(), id, { payload: '' }), 404, 'function_not_found');
  });

  it('count once for each Idempotency-Key, and say so when another request has it', async () => {
    const { id } = await add(ECHO);
    const keyed = (body: object, key: string) => later(here(), id, body, { headers: { 'Idempotency-Key': key } });
    const answers = await Promise.all(Array.from({ length: 8 }, () => keyed({ payload: 'once' }, 'order-1')));
    const ids = new Set(answers.map((answer) => (answer.json() as Invocation).id));
    expect(ids.size).toBe(1);
    expect(answers.filter(({ headers }) => headers['idempotency-replayed'] === undefined)).toHaveLength(1);
    const [call] = [...ids] as [string];
    await until(here(), call, { status: 'succeeded', idempotency_key: 'order-1' });
    expect((await keyed({ payload: 'once' }, 'order-1')).json()).toMatchObject({ id: call, status: 'succeeded' });
    expectProblem(await keyed({ payload: 'twice' }, 'order-1'), 409, 'idempotency_key_reused');
    expect((await keyed({ payload: 'once' }, 'order-2')).json()).not.toMatchObject({ id: call });
    expect(await list(here(), id)).toHaveLength(2);
    await here().remove(id);
  });

  it('can be cancelled while they wait and while they run, but not once they have ended', async () => {
    const { id } = await add(OBEDIENT);
    const cancel = (call: string) => here().send(`/invocations/${call}`, { method: 'DELETE' });
    const waiting = await accepted(here(), id, { payload: 'never', delay_ms: 60_000 });
    expect((await cancel(waiting.id)).json()).toMatchObject({ id: waiting.id, status: 'cancelled' });
    expectProblem(await cancel(waiting.id), 409, 'invocation_ended');

    const running = await accepted(here(), id, { payload: 'sleep 25' });
    await until(here(), running.id, { status: 'running' });
    const answer = await cancel(running.id);
    expect([answer.status, answer.json()]).toMatchObject([202, { status: 'running' }]);
    const ended = await until(here(), running.id, { status: 'cancelled' });
    expect(Date.parse(ended.ended_at ?? '') - Date.parse(ended.started_at ?? '')).toBeLessThan(20_000);
    expectProblem(await cancel('nothing'), 404, 'invocation_not_found');
    await here().remove(id);
  });

  it('that are dead wait again when they are told to', async () => {
    const code = 'import pathlib\n\ndef handle(payload):\n    raise ValueError(payload)\n';
    const { id } = await add(code);
    const calls = await Promise.all(
      ['a', 'b', 'c'].map((payload) => accepted(here(), id, { payload, max_attempts: 1 })),
    );
    for (const { id: call } of calls) await until(here(), call, { status: 'dead', attempt: 1 });
    const answer = await here().send(`/functions/${id}/revisions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ code: ECHO }),
    });
    expect(answer.status, answer.text).toBe(201);
    const redrive = (body: object) =>
      here().send(`/functions/${id}/invocations/redrive`, { method: 'POST', body: JSON.stringify(body) });
    expect((await redrive({ ids: [calls[1]!.id] })).json()).toEqual({ redriven: 1 });
    await until(here(), calls[1]!.id, {
      status: 'succeeded',
      result: 'b',
      attempt: 1,
      revision: 2,
      enqueued_revision: 1,
    });
    expect(await list(here(), id, '?status=dead')).toHaveLength(2);
    expect((await redrive({})).json()).toEqual({ redriven: 2 });
    for (const { id: call } of calls) await until(here(), call, { status: 'succeeded' });
    expect((await redrive({})).json()).toEqual({ redriven: 0 });
    expectProblem(await redrive({ ids: ['x'] }), 400, 'invalid_invocation');
    await here().remove(id);
  });

  it('may be asked for where calls at once are, by a preference', async () => {
    const { id } = await add(ECHO);
    for (const [prefer, query] of [
      ['respond-async', ''],
      ['wait=10, Respond-Async', '?revision=1'],
    ]) {
      const headers = { Prefer: prefer };
      const answer = await here().send(`/functions/${id}/execute${query}`, {
        method: 'POST',
        body: '{"payload": "later"}',
        headers,
      });
      expect(answer.status, answer.text).toBe(202);
      expect(answer.headers['preference-applied']).toBe('respond-async');
      await until(here(), (answer.json() as Invocation).id, { status: 'succeeded', result: 'later' });
    }
    expect((await here().call(id, 'now', { headers: { Prefer: 'handling=lenient' } })).json()).toEqual({
      result: 'now',
    });
    await here().remove(id);
  });

  it('are listed in pages, the newest first', async () => {
    const { id } = await add(ECHO);
    const calls: string[] = [];
    for (const payload of ['1', '2', '3', '4', '5']) {
      calls.unshift((await accepted(here(), id, { payload, delay_ms: 60_000 })).id);
    }
    const pages: string[][] = [];
    let path: string | undefined = `/functions/${id}/invocations?limit=2&status=waiting`;
    while (path !== undefined) {
      const answer: Answer = await here().send(path);
      expect(answer.status, answer.text).toBe(200);
      pages.push((answer.json() as Invocation[]).map((one) => one.id));
      path = /^<(.*)>; rel="next"$/.exec(String(answer.headers['link']))?.[1];
    }
    expect(pages).toEqual([calls.slice(0, 2), calls.slice(2, 4), calls.slice(4)]);
    expect(await list(here(), id, '?status=dead')).toEqual([]);
    expectProblem(await here().send(`/functions/${id}/invocations?status=lost`), 400, 'invalid_page');
    expectProblem(await here().send(`/functions/${id}/invocations?since=x`), 400, 'invalid_request');
    await here().remove(id);
    expectProblem(await here().send(`/invocations/${calls[0]!}`), 404, 'invocation_not_found');
  });
});

describeOnAnyEngine('a queue of calls for later', (engine) => {
  const stage = Stage.on(engine, { INVOCATIONS_PER_FUNCTION: '3', INVOCATIONS_MAX_AGE_MS: '86400000' });
  const here = () => stage.manager;

  it('refuses what it has no room for, and says when to come again', async () => {
    const { id } = await here().add(ECHO);
    const answers: Answer[] = [];
    for (let call = 0; call < 5; call += 1) answers.push(await later(here(), id, { payload: '', delay_ms: 60_000 }));
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202, 429, 429]);
    for (const answer of answers.slice(3)) expectProblem(answer, 429, 'queue_full');
    const [first] = await list(here(), id);
    await here().send(`/invocations/${first!.id}`, { method: 'DELETE' });
    await accepted(here(), id, { payload: '', delay_ms: 60_000 });
    await here().remove(id);
  });

  it('has no room for dead calls either when it is full, and says so', async () => {
    const { id } = await here().add(OBEDIENT);
    const { id: dead } = await accepted(here(), id, { payload: 'raise oh', max_attempts: 1 });
    await until(here(), dead, { status: 'dead' });
    for (let call = 0; call < 3; call += 1) await accepted(here(), id, { payload: '', delay_ms: 60_000 });
    const redrive = (body: object) =>
      here().send(`/functions/${id}/invocations/redrive`, { method: 'POST', body: JSON.stringify(body) });
    for (const body of [{}, { ids: [dead] }]) expectProblem(await redrive(body), 429, 'queue_full');
    const [waits] = await list(here(), id, '?status=waiting');
    expect((await redrive({ ids: [waits!.id] })).json()).toEqual({ redriven: 0 });
    await here().remove(id);
  });

  it('is kept while its function is switched off, and goes on when it is switched on', async () => {
    const { id } = await here().add(ECHO);
    const { id: call } = await accepted(here(), id, { payload: 'patient', delay_ms: 500 });
    const patch = (enabled: boolean) =>
      here().send(`/functions/${id}`, { method: 'PATCH', body: JSON.stringify({ enabled }) });
    await patch(false);
    await vi.waitFor(async () => {
      const { due_at } = await read(here(), call);
      expect(Date.parse(due_at)).toBeLessThan(Date.now() - 1_000);
    }, PATIENCE);
    expect(await read(here(), call)).toMatchObject({ status: 'waiting', attempt: 0 });
    await patch(true);
    await until(here(), call, { status: 'succeeded', attempt: 1 });
    await here().remove(id);
  });
});

describeOnAnyEngine('calls for later beside others', (engine) => {
  const stage = Stage.on(engine, { INVOCATIONS_CONCURRENCY: '8', MAX_REPLICAS: '1' });
  const here = () => stage.manager;

  it('leave slots for calls at once, however many there are', async () => {
    const { id } = await here().add(OBEDIENT, { concurrency: 4, max_replicas: 1 });
    await Promise.all(Array.from({ length: 12 }, () => accepted(here(), id, { payload: 'sleep 5' })));
    await vi.waitFor(async () => {
      expect(await list(here(), id, '?status=running')).not.toEqual([]);
    }, PATIENCE);
    const answer = await here().call(id, 'now');
    expect(answer.json()).toEqual({ result: 'now' });
    const ended = (await list(here(), id, '?kind=later')).filter(({ status }) => status === 'succeeded');
    // Not after those that take seconds each.
    expect(ended).toEqual([]);
    await here().remove(id);
  });

  it('of one function don’t hold up those of another', async () => {
    const [slow, quick] = [await here().add(OBEDIENT), await here().add(ECHO)];
    await Promise.all(Array.from({ length: 40 }, () => accepted(here(), slow.id, { payload: 'sleep 25' })));
    await vi.waitFor(async () => {
      expect((await list(here(), slow.id, '?status=running')).length).toBeGreaterThanOrEqual(4);
    }, PATIENCE);
    const { id: call } = await accepted(here(), quick.id, { payload: 'quick' });
    await until(here(), call, { status: 'succeeded' });
    expect(await list(here(), slow.id, '?status=succeeded')).toEqual([]);
    await here().remove(slow.id);
    await here().remove(quick.id);
  });

  it('that end their worker don’t keep the others from running', async () => {
    const { id } = await here().add(OBEDIENT);
    const poison = await accepted(here(), id, { payload: 'exit 3', max_attempts: 2, backoff_ms: 1 });
    const others = await Promise.all(
      Array.from({ length: 6 }, (_, n) =>
        accepted(here(), id, { payload: `return ${n}`, max_attempts: 50, backoff_ms: 1 }),
      ),
    );
    for (const [n, { id: call }] of others.entries()) await until(here(), call, { status: 'succeeded', result: n });
    await until(here(), poison.id, { status: 'dead', error: { code: 'worker_crashed' } });
    await here().remove(id);
  });

  it('are given back when a manager stops, and run on the next one', async () => {
    const { id } = await here().add(OBEDIENT);
    const other = await stage.start({ DRAIN_TIMEOUT_MS: '200' });
    const calls = await Promise.all(
      Array.from({ length: 4 }, () => accepted(other, id, { payload: 'sleep 2', max_attempts: 1 })),
    );
    await vi.waitFor(async () => expect(await list(here(), id, '?status=running')).not.toEqual([]), PATIENCE);
    await other.stop();
    for (const { id: call } of calls) {
      const { attempts } = await until(here(), call, { status: 'succeeded', attempt: 1 });
      // Those that were given back are none.
      expect(attempts).toMatchObject([{ attempt: 1, status: 'succeeded' }]);
    }
    await here().remove(id);
  });
});

const SECRET = 'a-secret-of-callbacks-0123456789';

describeOnAnyEngine('callbacks', (engine) => {
  const stage = Stage.on(engine, {
    CALLBACKS_SECRETS: `${SECRET},another-${SECRET}`,
    CALLBACKS_ALLOW: '127.0.0.0/8',
    CALLBACKS_TIMEOUT_MS: '2000',
    CALLBACKS_MAX_ATTEMPTS: '3',
    CALLBACKS_BACKOFF_MS: '20',
  });
  const here = () => stage.manager;

  it('tell of a call that has ended, signed, and again until somebody takes it', async () => {
    const { id } = await here().add(OBEDIENT);
    const { url, told, close } = await listener([503, 302, 204]);
    const { id: call } = await accepted(here(), id, { payload: 'return [1]', callback_url: `${url}?token=secret` });
    const ended = await until(here(), call, {
      status: 'succeeded',
      callback: { url, status: 'delivered', attempt: 3 },
    });
    expect(told).toHaveLength(3);
    for (const { headers, body } of told) {
      expect(JSON.parse(body.toString())).toMatchObject({ id: call, status: 'succeeded', result: [1] });
      expect(headers['webhook-id']).toBe(call);
      const signed = Buffer.concat([Buffer.from(`${call}.${String(headers['webhook-timestamp'])}.`), body]);
      const signatures = [SECRET, `another-${SECRET}`].map(
        (secret) => `v1,${createHmac('sha256', secret).update(signed).digest('base64')}`,
      );
      expect(headers['webhook-signature']).toBe(signatures.join(' '));
    }
    expect(ended.callback?.error).toBeNull();
    await close();
    await here().remove(id);
  });

  it('are given up after their last attempt, or when the target wants none', async () => {
    const { id } = await here().add(OBEDIENT);
    const [hangs, gone] = [await listener([0]), await listener([410])];
    const body = { payload: 'raise oh', max_attempts: 1 };
    const first = await accepted(here(), id, { ...body, callback_url: gone.url });
    await until(here(), first.id, {
      status: 'dead',
      callback: { status: 'failed', attempt: 1, error: 'it answered 410' },
    });
    // The end of a redriven call is told of as something new.
    const redrive = `/functions/${id}/invocations/redrive`;
    await here().send(redrive, { method: 'POST', body: JSON.stringify({ ids: [first.id] }) });
    await until(here(), first.id, { status: 'dead', callback: { status: 'failed', attempt: 1 } });
    const [former, anew] = gone.told.map(({ headers }) => headers['webhook-id']);
    expect(former).toBe(first.id);
    expect(anew).toMatch(/^[0-9a-f-]{36}$/);
    expect(anew).not.toBe(former);
    const second = await accepted(here(), id, { ...body, callback_url: hangs.url });
    const ended = await until(here(), second.id, { status: 'dead', callback: { status: 'failed', attempt: 3 } });
    expect(ended.callback?.error).toMatch(/2000 ms|timeout/i);
    expect(hangs.told).toHaveLength(3);
    await Promise.all([hangs.close(), gone.close()]);
    await here().remove(id);
  });

  it('tell of one that is cancelled, too', async () => {
    const { id } = await here().add(ECHO);
    const { url, told, close } = await listener([200]);
    const { id: call } = await accepted(here(), id, { payload: '', delay_ms: 60_000, callback_url: url });
    await here().send(`/invocations/${call}`, { method: 'DELETE' });
    await until(here(), call, { callback: { status: 'delivered' } });
    expect(JSON.parse(told[0]!.body.toString())).toMatchObject({ id: call, status: 'cancelled' });
    await close();
    await here().remove(id);
  });
});

describeOnAnyEngine('callbacks to where they may not go', (engine) => {
  const stage = Stage.on(engine, {
    CALLBACKS_SECRETS: SECRET,
    CALLBACKS_MAX_ATTEMPTS: '2',
    CALLBACKS_BACKOFF_MS: '1',
  });

  it('are refused with the call, or by the address that a name turns out to have', async () => {
    const here = stage.manager;
    const { id } = await here.add(ECHO);
    const { url, told, close } = await listener([200]);
    const { field } = expectProblem(
      await later(here, id, { payload: '', callback_url: url }),
      400,
      'invalid_invocation',
    );
    expect(field).toBe('callback_url');
    const named = url.replace('127.0.0.1', 'localhost');
    const { id: call } = await accepted(here, id, { payload: '', callback_url: named });
    const ended = await until(here, call, { status: 'succeeded', callback: { status: 'failed', attempt: 2 } });
    expect(ended.callback?.error).toMatch('localhost is no public address');
    expect(told).toEqual([]);
    await close();
    await here.remove(id);
  });
});
