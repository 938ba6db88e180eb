import { expect, it } from 'vitest';
import {
  addFunction,
  executeFunction,
  type FunctionDto,
  getFunction,
  getFunctionCode,
  listFunctions,
  removeFunction,
} from '../client/index.js';
import { describeOnAnyEngine, describeOnEachEngine } from '../support/engines.js';
import { ASYNC_ECHO, ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { field, file, form } from '../support/uploads.js';

const CONTAINER_ID = { docker: /^[0-9a-f]{64}$/, kubernetes: /^faas-worker-[a-z2-7]{16}$/, process: /./ };

describeOnEachEngine('the four operations', (engine) => {
  const stage = Stage.on(engine);

  it('starts with an empty list', async () => {
    const answer = await stage.manager.send('/functions');
    expect(answer).toMatchObject({ status: 200, text: '[]' });
    expect(answer.headers['content-type']).toMatch(/^application\/json/);
  });

  it('adds a function, lists it, runs it and removes it', async () => {
    const { client } = stage.manager;
    const before = Date.now();
    const added = await addFunction({ client, body: { code: ECHO, function_name: 'handle' } });
    expect(added.response?.status).toBe(201);
    expect(added.response?.headers.get('location')).toBe(`/functions/${added.data?.id}`);
    expect(added.data).toEqual({
      id: expect.stringMatching(/^[a-z2-7]{16}$/) as string,
      name: added.data?.id,
      description: '',
      labels: {},
      enabled: true,
      public: false,
      invocation_defaults: {},
      history: {},
      function_name: 'handle',
      handler_path: 'function.handler.handle',
      container_id: expect.stringMatching(CONTAINER_ID[engine.name]) as string,
      container_name: `faas-worker-${added.data?.id}`,
      host_port: expect.any(Number) as number,
      status: 'running',
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
      timeout_ms: 30_000,
      min_replicas: 0,
      max_replicas: null,
      idle_timeout_ms: 600_000,
      concurrency: 32,
      memory_mib: 512,
      cpu_millis: 1_000,
      env: {},
      secrets: {},
      requirements: null,
      handler_kind: 'auto',
    });
    const { id, created_at, host_port } = added.data!;
    expect(Math.abs(Date.parse(created_at) - before)).toBeLessThan(10_000);
    // A container that is reached by its own address has none.
    if (engine.name !== 'docker') expect(host_port).toBe(engine.name === 'kubernetes' ? 80 : 0);

    expect((await listFunctions({ client })).data).toEqual([added.data]);

    const executed = await executeFunction({ client, path: { id }, body: { payload: 'hello' } });
    expect(executed.response?.status).toBe(200);
    expect(executed.data).toEqual({ result: 'hello' });

    const removed = await removeFunction({ client, path: { id } });
    expect(removed.response?.status).toBe(204);
    expect((await listFunctions({ client })).data).toEqual([]);
    expect(await stage.room.workers()).toEqual([]);
  });

  it('answers 204 to a first removal and 404 to a second, without a body in between', async () => {
    const { id } = await stage.manager.add(ECHO);
    const first = await stage.manager.remove(id);
    expect(first).toMatchObject({ status: 204, text: '' });
    expectProblem(await stage.manager.remove(id), 404, 'function_not_found');
    expectProblem(await stage.manager.call(id), 404, 'function_not_found');
    expectProblem(await stage.manager.send(`/functions/${id}`), 404, 'function_not_found');
    expectProblem(await stage.manager.send(`/functions/${id}/code`), 404, 'function_not_found');
  });

  it('tells of one function why it is in its state and since when', async () => {
    const { client } = stage.manager;
    const added = await stage.manager.add(ECHO);
    const { data, response } = await getFunction({ client, path: { id: added.id } });
    expect(response?.status).toBe(200);
    expect(data).toMatchObject({ ...added, last_error: null, replicas: 1, ready_replicas: 1 });
    expect(data?.code_sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(data?.conditions).toEqual([
      {
        type: 'Ready',
        status: true,
        reason: 'replicas_ready',
        message: '1 of 1 replicas answer.',
        since: expect.stringMatching(/Z$/) as string,
      },
      {
        type: 'Reconciled',
        status: true,
        reason: 'as_wanted',
        message: 'The engine holds what is wanted.',
        since: expect.stringMatching(/Z$/) as string,
      },
    ]);
    await removeFunction({ client, path: { id: added.id } });
  });

  it('gives the code back byte for byte: byte order mark, CRLF, no last newline', async () => {
    const { client } = stage.manager;
    const code = '\uFEFF# été — 数\r\ndef handle(payload):\r\n\treturn "é" + payload';
    const { id } = await stage.manager.add(code);
    const answer = await stage.manager.send(`/functions/${id}/code`);
    expect(answer.body.equals(Buffer.from(code))).toBe(true);
    expect(answer.headers['content-type']).toBe('text/x-python; charset=utf-8');
    expect(answer.headers['x-content-type-options']).toBe('nosniff');
    expect(answer.headers['content-length']).toBe(String(Buffer.byteLength(code)));
    // The client takes a byte order mark for one and leaves it out, as fetch does.
    expect((await getFunctionCode({ client, path: { id } })).data).toBe(code.slice(1));
    expect((await stage.manager.call(id, '!')).json()).toEqual({ result: 'é!' });
    await stage.manager.remove(id);
  });

  it('reads a file in the encoding that it names, and gives it back byte for byte', async () => {
    const code = Buffer.from(
      "# -*- coding: cp1252 -*-\ndef handle(payload):\n    return '\u0080 gr\u00fcn'\n",
      'latin1',
    );
    const { id } = await stage.manager.add(code);
    expect((await stage.manager.call(id)).json()).toEqual({ result: '€ grün' });
    const answer = await stage.manager.send(`/functions/${id}/code`);
    expect(answer.body.equals(code)).toBe(true);
    expect(answer.headers['content-type']).toBe('text/x-python');
    await stage.manager.remove(id);
  });

  it('runs handlers that are coroutines, and callables under any name Python allows', async () => {
    const coroutine = await stage.manager.add(ASYNC_ECHO);
    expect((await stage.manager.call(coroutine.id, 'x')).text).toBe('{"result":{"echo":"x"}}');
    const code =
      'class Greeter:\n    def __call__(self, payload):\n        return "café " + payload\ncafé = Greeter()\n';
    // The name is sent as e with a combining accent, which Python takes for the same.
    const named = await stage.manager.add(code, { name: 'cafe\u0301' });
    expect(named).toMatchObject({ function_name: 'café', handler_path: 'function.handler.café' });
    expect((await stage.manager.call(named.id, 'x')).json()).toEqual({ result: 'café x' });
    const listed = await listFunctions({ client: stage.manager.client });
    await Promise.all(listed.data!.map(({ id }) => stage.manager.remove(id)));
  });
});

describeOnAnyEngine('lists, paths and file names', (engine) => {
  const stage = Stage.on(engine);

  it('lists functions in the order they were added', async () => {
    const add = (name: string) => stage.manager.add(`async def ${name}(payload):\n    return "${name}"\n`, { name });
    const first = await add('zebra');
    const middle = await Promise.all(['monkey', 'ape', 'lemur'].map(add));
    const last = await add('ant');
    const listed = (await listFunctions({ client: stage.manager.client })).data!;
    expect(listed).toHaveLength(5);
    expect(listed[0]).toEqual(first);
    expect(listed[4]).toEqual(last);
    expect(listed.map(({ id }) => id).toSorted()).toEqual([first, ...middle, last].map(({ id }) => id).toSorted());
    for (const { id, function_name } of listed) {
      expect((await stage.manager.call(id)).text).toBe(`{"result":"${function_name}"}`);
    }
    expect(new Set(listed.map(({ container_id }) => container_id)).size).toBe(5);
    const pages = await pagesOf('/functions?limit=2');
    expect(pages.map((page) => page.length)).toEqual([2, 2, 1]);
    expect(pages.flat()).toEqual(listed);
    expect(await pagesOf('/functions?limit=5')).toEqual([listed]);
    const statuses = await Promise.all(listed.map(async ({ id }) => (await stage.manager.remove(id)).status));
    expect(statuses).toEqual([204, 204, 204, 204, 204]);
  });

  /** Follows the links from page to page. */
  const pagesOf = async (first: string): Promise<FunctionDto[][]> => {
    const pages: FunctionDto[][] = [];
    for (let path: string | undefined = first; path !== undefined;) {
      const answer = await stage.manager.send(path);
      pages.push(answer.json() as FunctionDto[]);
      path = /^<([^>]+)>; rel="next"$/.exec(String(answer.headers['link'] ?? ''))?.[1];
    }
    return pages;
  };

  it.each([
    ['limit', '?limit=0'],
    ['limit', '?limit=1001'],
    ['limit', '?limit=ten'],
    ['limit', '?limit=1&limit=2'],
    ['after', '?after=-1'],
    ['after', '?after=1234567890123456789'],
  ])('says that %s is wrong in a list %s', async (parameter, query) => {
    const problem = expectProblem(await stage.manager.send(`/functions${query}`), 400, 'invalid_page');
    expect(problem['parameter']).toBe(parameter);
  });

  it('takes paths with a trailing slash', async () => {
    const answer = await stage.manager.send('/functions/', {
      method: 'POST',
      ...form(file(ECHO), field('function_name', 'handle')),
    });
    expect(answer.status).toBe(201);
    const { id } = answer.json() as { id: string };
    const call = { method: 'POST', body: '{"payload": "x"}' };
    expect((await stage.manager.send(`/functions/${id}/execute/`, call)).text).toBe('{"result":"x"}');
    expect((await stage.manager.send(`/functions/${id}/execute/?`, call)).text).toBe('{"result":"x"}');
    expect((await stage.manager.send('/functions/')).json()).toHaveLength(1);
    expect((await stage.manager.send(`/functions/${id}/`)).status).toBe(200);
    expect((await stage.manager.send(`/functions/${id}/code/`)).text).toBe(ECHO);
    expect((await stage.manager.send(`/functions/${id}/`, { method: 'DELETE' })).status).toBe(204);
  });

  it("ignores the file's own name", async () => {
    const parts = [field('function_name', 'handle'), file(ECHO, '../../etc/passwd')];
    const answer = await stage.manager.send('/functions', { method: 'POST', ...form(...parts) });
    expect(answer.status).toBe(201);
    const { id } = answer.json() as { id: string };
    expect((await stage.manager.send(`/functions/${id}/code`)).text).toBe(ECHO);
    await stage.manager.remove(id);
  });
});
