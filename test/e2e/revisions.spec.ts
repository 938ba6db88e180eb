import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import type { FunctionDetailDto, FunctionDto, RevisionDto } from '../client/index.js';
import { expectAsDocumented } from '../support/document.js';
import { describeOnAnyEngine, describeOnEachEngine, describeOnProcesses } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { type Answer, expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { field, file, form } from '../support/uploads.js';

const answering = (text: string) => `def handle(payload):\n    return ${JSON.stringify(text)}\n`;
const BROKEN = 'def handle(:\n';

function post(manager: TestManager, path: string, body: unknown, headers: Record<string, string> = {}) {
  return manager.send(`/functions/${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

async function revised(manager: TestManager, id: string, members: object): Promise<RevisionDto> {
  const answer = await post(manager, `${id}/revisions`, members);
  expect(answer.status, answer.text).toBe(201);
  return answer.json() as RevisionDto;
}

const resultOf = (answer: Answer) => (answer.json() as { result: unknown }).result;

describeOnEachEngine('updates of a function', (engine) => {
  const stage = Stage.on(engine);
  const result = async (id: string, payload = '') => {
    const answer = await stage.manager.call(id, payload);
    expect(answer.status, answer.text).toBe(200);
    return resultOf(answer);
  };

  it('takes the calls over, and gives them back', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('one'));
    const two = await post(manager, `${id}/revisions`, { code: answering('two'), message: 'Second' });
    expect(two.status, two.text).toBe(201);
    expect(two.headers['location']).toBe(`/functions/${id}/revisions/2`);
    expect(two.json()).toMatchObject({ revision: 2, status: 'ready', serving: true, message: 'Second', error: null });
    expectAsDocumented(two.json(), 'RevisionDto');
    expect(await result(id)).toBe('two');
    expect((await manager.send(`/functions/${id}/code`)).text).toBe(answering('two'));
    expect((await manager.send(`/functions/${id}/revisions/1/code`)).text).toBe(answering('one'));

    const back = await post(manager, `${id}/rollback`, {});
    expect(back.status, back.text).toBe(200);
    expect(back.json()).toMatchObject({ revision: 1, serving: true });
    expect(await result(id)).toBe('one');
    const listed = (await manager.send(`/functions/${id}/revisions`)).json() as RevisionDto[];
    expect(listed.map(({ revision, serving, status }) => [revision, serving, status])).toEqual([
      [2, false, 'ready'],
      [1, true, 'ready'],
    ]);
    expect((await post(manager, `${id}/rollback`, { revision: 2 })).json()).toMatchObject({ revision: 2 });
    expect(await result(id)).toBe('two');
    await manager.remove(id);
  });

  it('changes nothing when it can’t be loaded, and says why', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('good'), { timeoutMs: 7_000 });
    const problem = expectProblem(
      await post(manager, `${id}/revisions`, { code: BROKEN, timeout_ms: 9_000 }),
      422,
      'handler_not_loadable',
    );
    expect(problem.line).toBe(1);
    expect(await result(id)).toBe('good');
    const detail = (await manager.send(`/functions/${id}`)).json() as FunctionDetailDto;
    expect(detail).toMatchObject({ status: 'running', timeout_ms: 7_000 });
    const failed = (await manager.send(`/functions/${id}/revisions/2`)).json() as RevisionDto;
    expect(failed).toMatchObject({ status: 'failed', serving: false, error: { code: 'handler_not_loadable' } });
    // What is left out is taken from the one that serves, not from the one that failed.
    await revised(manager, id, { timeout_ms: 8_000 });
    expect(await result(id)).toBe('good');
    expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({ timeout_ms: 8_000 });
    await manager.remove(id);
  });

  it('wakes a function that sleeps, and leaves it to the former one if it fails', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('one'), { idle_timeout_ms: 1_000 });
    const asleep = () =>
      vi.waitFor(
        async () => expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({ status: 'idle' }),
        { timeout: 30_000, interval: 100 },
      );
    await asleep();
    const failing = post(manager, `${id}/revisions`, { code: BROKEN });
    expect(await result(id)).toBe('one');
    expectProblem(await failing, 422, 'handler_not_loadable');
    expect(await result(id)).toBe('one');
    await asleep();
    await revised(manager, id, { code: answering('two') });
    expect(await result(id)).toBe('two');
    await asleep();
    expect(await result(id)).toBe('two');
    await manager.remove(id);
  });

  it('fails no call, and no call after it gets the former one’s answer', { timeout: 180_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('0'), { min_replicas: 1 });
    const calling = new AbortController();
    const failures: string[] = [];
    let calls = 0;
    const caller = async () => {
      while (!calling.signal.aborted) {
        const answer = await manager.call(id);
        if (answer.status !== 200) failures.push(answer.text);
        calls += 1;
        await delay(40);
      }
    };
    const callers = [caller(), caller()];
    for (let update = 1; update <= 5; update += 1) {
      await revised(manager, id, { code: answering(String(update)) });
      // While a Deployment rolls, both have calls (docs/decisions, 19).
      if (engine.name !== 'kubernetes') expect(await result(id)).toBe(String(update));
    }
    for (let update = 0; update < 3; update += 1) {
      expect((await post(manager, `${id}/rollback`, { revision: 1 + (update % 2) })).status).toBe(200);
      if (engine.name !== 'kubernetes') expect(await result(id)).toBe(String(update % 2));
    }
    calling.abort();
    await Promise.all(callers);
    expect(failures).toEqual([]);
    expect(calls).toBeGreaterThan(20);
    await manager.remove(id);
  });
});

describeOnAnyEngine('revisions that have had no calls for long', (engine) => {
  const stage = Stage.on(engine, { REVISION_RETENTION_MS: '1500', ORPHAN_SWEEP_MS: '500' });

  it('go, and those in use stay', { timeout: 90_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('1'));
    const numbers = async () =>
      ((await manager.send(`/functions/${id}/revisions`)).json() as RevisionDto[]).map(({ revision }) => revision);
    const left = (wanted: number[]) =>
      vi.waitFor(async () => expect(await numbers()).toEqual(wanted), { timeout: 30_000, interval: 100 });
    const spread = (traffic: object) =>
      manager.send(`/functions/${id}/traffic`, {
        method: 'PUT',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(traffic),
      });
    await revised(manager, id, { code: answering('2') });
    await left([2]);
    await revised(manager, id, { code: answering('3') });
    const targets = [
      { revision: 2, percent: 50 },
      { revision: 3, percent: 50 },
    ];
    expect((await spread({ targets })).status).toBe(200);
    expectProblem(await post(manager, `${id}/revisions`, { code: BROKEN }), 422, 'handler_not_loadable');
    await left([3, 2]);
    expect((await spread({ targets: [{ revision: 2, percent: 100 }] })).status).toBe(200);
    expect(resultOf(await manager.call(id))).toBe('2');
    await manager.remove(id);
  });
});

describeOnAnyEngine('revisions', (engine) => {
  const stage = Stage.on(engine, { READY_TIMEOUT_MS: '8000', REVISIONS_KEPT: '3' });

  it('keep settings with the code that they came with', async () => {
    const { manager } = stage;
    const { id } = await manager.add(ECHO, { timeoutMs: 5_000, env: '{"A": "1"}' });
    const two = await revised(manager, id, { env: { B: '2' }, memory_mib: 300 });
    expect(two).toMatchObject({ timeout_ms: 5_000, env: { B: '2' }, memory_mib: 300 });
    const detail = async () => (await manager.send(`/functions/${id}`)).json();
    expect(await detail()).toMatchObject({ timeout_ms: 5_000, env: { B: '2' }, memory_mib: 300 });
    await post(manager, `${id}/rollback`, {});
    expect(await detail()).toMatchObject({ timeout_ms: 5_000, env: { A: '1' }, memory_mib: 512 });
    const parts = form(file(answeringName('other')), field('function_name', 'other'), field('message', 'By a form'));
    const three = await manager.send(`/functions/${id}/revisions`, { method: 'POST', ...parts });
    expect(three.json()).toMatchObject({
      revision: 3,
      function_name: 'other',
      message: 'By a form',
      timeout_ms: 5_000,
    });
    expect(await detail()).toMatchObject({ function_name: 'other', env: { A: '1' } });
    await manager.remove(id);
  });

  it('give way to the newer of two that are made at once, and both makers hear the truth', async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('old'));
    const slow = `import time\ntime.sleep(3)\n${answering('slow')}`;
    const first = post(manager, `${id}/revisions`, { code: slow });
    await vi.waitFor(async () =>
      expect((await manager.send(`/functions/${id}/revisions/2`)).json()).toMatchObject({ status: 'pending' }),
    );
    expect(resultOf(await manager.call(id))).toBe('old');
    await revised(manager, id, { code: answering('new') });
    expectProblem(await first, 409, 'revision_superseded');
    expect(resultOf(await manager.call(id))).toBe('new');
    expect((await manager.send(`/functions/${id}/revisions/2`)).json()).toMatchObject({ status: 'superseded' });
    await manager.remove(id);
  });

  it(
    'serve on when the next one is not ready in time, or ends as soon as it is loaded',
    { timeout: 60_000 },
    async () => {
      const { manager } = stage;
      const { id } = await manager.add(answering('old'));
      const never = await post(manager, `${id}/revisions`, { code: `import time\ntime.sleep(60)\n${ECHO}` });
      expect(expectProblem(never, 503, 'function_not_ready').detail).toContain('not within 8000 ms');
      const ending = await post(manager, `${id}/revisions`, { code: `import os\nos._exit(3)\n${ECHO}` });
      expect(ending.status).toBeGreaterThanOrEqual(400);
      expect(resultOf(await manager.call(id))).toBe('old');
      const states = ((await manager.send(`/functions/${id}/revisions`)).json() as RevisionDto[]).map(
        (one) => one.status,
      );
      expect(states).toEqual(['failed', 'failed', 'ready']);
      await manager.remove(id);
    },
  );

  it('are given up by another manager when the one that waits is gone', { timeout: 60_000 }, async () => {
    const { manager } = stage;
    const other = await stage.start({ READY_TIMEOUT_MS: '8000' });
    const { id } = await manager.add(answering('old'));
    const waiting = post(other, `${id}/revisions`, { code: BROKEN }).catch(() => undefined);
    await vi.waitFor(async () => expect((await manager.send(`/functions/${id}/revisions/2`)).status).toBe(200));
    await other.stop();
    await waiting;
    await vi.waitFor(
      async () =>
        expect((await manager.send(`/functions/${id}/revisions/2`)).json()).toMatchObject({ status: 'failed' }),
      { timeout: 30_000, interval: 100 },
    );
    expect(resultOf(await manager.call(id))).toBe('old');
    await manager.remove(id);
  });

  it('are kept up to a number, and those in use in any case', { timeout: 60_000 }, async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('1'));
    const numbers = async () =>
      ((await manager.send(`/functions/${id}/revisions`)).json() as RevisionDto[]).map(({ revision }) => revision);
    for (let made = 2; made <= 5; made += 1) await revised(manager, id, { code: answering(String(made)) });
    expect(await numbers()).toEqual([5, 4, 3]);
    expectProblem(await manager.send(`/functions/${id}/revisions/5`, { method: 'DELETE' }), 409, 'revision_in_use');
    expect((await manager.send(`/functions/${id}/revisions/4`, { method: 'DELETE' })).status).toBe(204);
    expectProblem(await manager.send(`/functions/${id}/revisions/4`, { method: 'DELETE' }), 404, 'revision_not_found');
    expectProblem(await post(manager, `${id}/rollback`, { revision: 4 }), 404, 'revision_not_found');
    expect((await post(manager, `${id}/rollback`, {})).json()).toMatchObject({ revision: 3 });
    await manager.remove(id);
  });

  it('never get a number again that another one had', async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('1'));
    await revised(manager, id, { code: answering('2') });
    await post(manager, `${id}/rollback`, {});
    expect((await manager.send(`/functions/${id}/revisions/2`, { method: 'DELETE' })).status).toBe(204);
    expect(await revised(manager, id, { code: answering('3') })).toMatchObject({ revision: 3 });
    expect(resultOf(await manager.call(id))).toBe('3');
    await manager.remove(id);
  });

  it('let go of settings that are null', async () => {
    const { manager } = stage;
    const { id } = await manager.add(ECHO, { timeoutMs: 5_000, max_replicas: 3 });
    const two = await revised(manager, id, { timeout_ms: null, max_replicas: null });
    expect(two).not.toHaveProperty('timeout_ms');
    expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({ timeout_ms: 30_000, max_replicas: null });
    await manager.remove(id);
  });

  describe('on their way', () => {
    const SLOW = `import time\ntime.sleep(4)\n${answering('slow')}`;
    const pending = async (id: string, number: number) =>
      vi.waitFor(async () =>
        expect((await stage.manager.send(`/functions/${id}/revisions/${number}`)).json()).toMatchObject({
          status: 'pending',
        }),
      );

    it('are stopped by going back to the one that has the calls', async () => {
      const { manager } = stage;
      const { id } = await manager.add(answering('1'));
      await revised(manager, id, { code: answering('2') });
      const slow = post(manager, `${id}/revisions`, { code: SLOW });
      await pending(id, 3);
      expect((await post(manager, `${id}/rollback`, {})).json()).toMatchObject({ revision: 2, serving: true });
      expectProblem(await slow, 409, 'revision_superseded');
      expect(resultOf(await manager.call(id))).toBe('2');
      await manager.remove(id);
    });

    it('tell whoever went back before that another one was wanted', async () => {
      const { manager } = stage;
      const { id } = await manager.add(SLOW);
      await revised(manager, id, { code: answering('2') });
      const back = post(manager, `${id}/rollback`, { revision: 1 });
      await pending(id, 1);
      await revised(manager, id, { code: answering('3') });
      expectProblem(await back, 409, 'revision_superseded');
      await manager.remove(id);
    });

    it('leave calls the time limit of the one that has them', { timeout: 60_000 }, async () => {
      const { manager } = stage;
      const sleepy = 'import time\ndef handle(payload):\n    time.sleep(float(payload))\n    return payload\n';
      const { id } = await manager.add(sleepy, { timeoutMs: 20_000 });
      const long = manager.call(id, '5');
      const slow = post(manager, `${id}/revisions`, { code: SLOW, timeout_ms: 500 });
      await pending(id, 2);
      expect(resultOf(await manager.call(id, '1'))).toBe('1');
      expect((await slow).status).toBe(201);
      expect(resultOf(await long)).toBe('5');
      await manager.remove(id);
    });
  });

  it('are made only of the version that their maker knows, where that is said', async () => {
    const { manager } = stage;
    const { id } = await manager.add(answering('1'));
    const { etag } = (await manager.send(`/functions/${id}`)).headers;
    const first = await post(manager, `${id}/revisions`, { code: answering('2') }, { 'If-Match': etag! });
    expect(first.status).toBe(201);
    const late = await post(manager, `${id}/revisions`, { code: answering('3') }, { 'If-Match': etag! });
    expectProblem(late, 412, 'version_outdated');
    expectProblem(await post(manager, `${id}/rollback`, {}, { 'If-Match': etag! }), 412, 'version_outdated');
    expect((await post(manager, `${id}/rollback`, {}, { 'If-Match': first.headers.etag! })).status).toBe(200);
    await manager.remove(id);
  });

  it('go with their function, however it is named', async () => {
    const { manager } = stage;
    const { id } = await manager.add(ECHO);
    await manager.send(`/functions/${id}`, { method: 'PATCH', body: '{"name": "named"}' });
    await revised(manager, 'named', { message: 'The same again' });
    expect((await manager.send('/functions/named/revisions/2')).json()).toMatchObject({ message: 'The same again' });
    await manager.remove('named');
    expectProblem(await manager.send(`/functions/${id}/revisions`), 404, 'function_not_found');
    expectProblem(await post(manager, `${id}/rollback`, {}), 404, 'function_not_found');
  });

  describe('are refused with the member at fault', () => {
    it.each([
      ['timeout_ms', 0],
      ['name', 'other'],
      ['message', 7],
      ['code', ''],
      ['function_name', 'not a name'],
      ['env', { PATH: 'x' }],
    ])('%s: %j', async (member, value) => {
      const { id } = (await stage.manager.add(ECHO)) satisfies FunctionDto;
      const answer = await post(stage.manager, `${id}/revisions`, { [member]: value });
      expect(expectProblem(answer, 400, 'invalid_upload').field).toBe(member);
      expect((await stage.manager.send(`/functions/${id}/revisions`)).json()).toHaveLength(1);
      await stage.manager.remove(id);
    });

    it('what is no revision', async () => {
      const { id } = await stage.manager.add(ECHO);
      for (const number of ['0', '-1', '1.5', 'x', '9'.repeat(30), '7']) {
        expectProblem(await stage.manager.send(`/functions/${id}/revisions/${number}`), 404, 'revision_not_found');
      }
      for (const body of [{ revision: '1' }, { revision: 0 }, { revision: 1.5 }, { revisions: 1 }]) {
        expectProblem(await post(stage.manager, `${id}/rollback`, body), 400, 'invalid_update');
      }
      expectProblem(await post(stage.manager, `${id}/rollback`, {}), 404, 'revision_not_found');
      await stage.manager.remove(id);
    });
  });
});

describeOnProcesses('a function whose file can’t be loaded any more', (engine) => {
  const stage = Stage.on(engine);

  it('says so when it is gone back to, and serves once that is over', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const database = createServer().listen(0, '127.0.0.1');
    await once(database, 'listening');
    const { port } = database.address() as AddressInfo;
    const { id } = await manager.add(NEEDING(port));
    database.close();
    expectProblem(await manager.call(id, 'leave'), 502, 'worker_crashed');
    await vi.waitFor(async () => {
      const refused = expectProblem(await manager.call(id, ''), 409, 'function_not_runnable');
      expect(refused).toMatchObject({ function_status: 'error' });
      expect(refused.detail).toContain('ConnectionRefusedError');
    });
    expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({
      status: 'error',
      ready_replicas: 0,
      last_error: { code: 'handler_not_loadable', message: expect.stringContaining('ConnectionRefused') as string },
      conditions: [{ type: 'Ready', status: false, reason: 'handler_not_loadable' }, { type: 'Reconciled' }],
    });
    expectProblem(await post(manager, `${id}/rollback`, { revision: 1 }), 422, 'handler_not_loadable');
    await once(database.listen(port, '127.0.0.1'), 'listening');
    const back = await post(manager, `${id}/rollback`, { revision: 1 });
    expect(back.status, back.text).toBe(200);
    expect((await manager.call(id, 'here')).text).toBe('{"result":"here"}');
    database.close();
    await manager.remove(id);
  });
});

/** Connects to something while it is loaded. */
const NEEDING = (port: number) => `import os, socket
socket.create_connection(("127.0.0.1", ${port})).close()
def handle(payload):
    os._exit(3) if payload == "leave" else None
    return payload
`;

function answeringName(name: string): string {
  return `def ${name}(payload):\n    return payload\n`;
}
