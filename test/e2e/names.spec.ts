import { describe, expect, it, vi } from 'vitest';
import type { FunctionDetailDto, FunctionDto } from '../client/index.js';
import { describeOnAnyEngine, describeOnEachLocalEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { type Answer, expectProblem, type Sent } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { field, file, form } from '../support/uploads.js';

const json = (body: unknown, headers: Record<string, string> = {}): Sent => ({
  headers: { 'Content-Type': 'application/json', ...headers },
  body: typeof body === 'string' ? body : JSON.stringify(body),
});

function upload(manager: TestManager, members: object): Promise<Answer> {
  const body = { function_name: 'handle', code: ECHO, ...members };
  return manager.send('/functions', { method: 'POST', ...json(body) });
}

async function added(manager: TestManager, members: object): Promise<FunctionDto> {
  const answer = await upload(manager, members);
  expect(answer.status, answer.text).toBe(201);
  return answer.json() as FunctionDto;
}

function change(manager: TestManager, reference: string, update: unknown, headers = {}): Promise<Answer> {
  return manager.send(`/functions/${reference}`, { method: 'PATCH', ...json(update, headers) });
}

describeOnEachLocalEngine('a function by its name', (engine) => {
  const stage = Stage.on(engine);

  it('is uploaded as JSON, called, read, listed and removed by it', async () => {
    const { manager } = stage;
    const labels = { team: 'web', 'example.org/tier': '1' };
    const one = await added(manager, { name: 'greet', description: 'Says it again.', labels, timeout_ms: 5_000 });
    expect(one).toMatchObject({
      name: 'greet',
      description: 'Says it again.',
      labels,
      enabled: true,
      timeout_ms: 5_000,
    });
    expect((await manager.call('greet', 'x')).json()).toEqual({ result: 'x' });
    expect((await manager.call(one.id, 'y')).json()).toEqual({ result: 'y' });
    expect((await manager.send('/functions/greet')).json()).toMatchObject({ id: one.id });
    expect((await manager.send('/functions/greet/code')).text).toBe(ECHO);
    expect((await manager.send('/functions?name=greet')).json()).toEqual([expect.objectContaining({ id: one.id })]);
    expect((await manager.remove('greet')).status).toBe(204);
    expectProblem(await manager.call('greet'), 404, 'function_not_found');
    expectProblem(await manager.remove('greet'), 404, 'function_not_found');
  });

  it('sleeps and wakes by it', async () => {
    const { manager } = stage;
    const { id } = await added(manager, { name: 'sleeper', idle_timeout_ms: 1_000 });
    const status = async () => ((await manager.send('/functions/sleeper')).json() as FunctionDetailDto).status;
    await vi.waitFor(async () => expect(await status()).toBe('idle'), { timeout: 30_000 });
    expect((await manager.call('sleeper', 'x')).json()).toEqual({ result: 'x' });
    await manager.remove(id);
  });

  it('is refused while it is switched off, and answers again after that', async () => {
    const { manager } = stage;
    const other = await stage.start();
    const { id } = await added(manager, { name: 'switched' });
    for (const one of [manager, other]) expect((await one.call('switched', 'x')).status).toBe(200);
    expect((await change(manager, 'switched', { enabled: false })).json()).toMatchObject({ id, enabled: false });
    for (const one of [manager, other]) {
      await vi.waitFor(async () => expectProblem(await one.call(id), 409, 'function_disabled'), { timeout: 5_000 });
    }
    expectProblem(await manager.call('switched'), 409, 'function_disabled');
    expect((await change(other, id, { enabled: null })).json()).toMatchObject({ enabled: true });
    for (const one of [manager, other]) {
      await vi.waitFor(async () => expect((await one.call('switched', 'x')).status).toBe(200), { timeout: 5_000 });
    }
    await manager.remove(id);
  });
});

describeOnAnyEngine('names', (engine) => {
  const stage = Stage.on(engine);

  it('belong to one function each, however many ask for one at once', async () => {
    const { manager } = stage;
    const answers = await Promise.all(Array.from({ length: 4 }, () => upload(manager, { name: 'unique' })));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    for (const answer of answers.filter(({ status }) => status !== 201)) {
      expect(expectProblem(answer, 409, 'name_taken')).toMatchObject({ field: 'name' });
    }
    const other = await added(manager, { name: 'other' });
    expectProblem(await change(manager, other.id, { name: 'unique' }), 409, 'name_taken');
    expect((await manager.send('/functions')).json()).toHaveLength(2);
    await manager.remove('unique');
    expect((await change(manager, other.id, { name: 'unique' })).status).toBe(200);
    expect((await manager.call('unique', 'x')).json()).toEqual({ result: 'x' });
    expectProblem(await manager.call('other'), 404, 'function_not_found');
    await manager.remove(other.id);
  });

  it('lead to the function that has them now, on each manager', async () => {
    const { manager } = stage;
    const other = await stage.start();
    const constant = (text: string) => `def handle(payload):\n    return ${JSON.stringify(text)}\n`;
    const one = await added(manager, { name: 'blue', code: constant('one') });
    const two = await added(manager, { name: 'green', code: constant('two') });
    const answer = async (by: TestManager, name: string) => (await by.call(name)).json();
    for (const by of [manager, other]) {
      expect(await answer(by, 'blue')).toEqual({ result: 'one' });
      expect(await answer(by, 'green')).toEqual({ result: 'two' });
    }
    await change(manager, one.id, { name: null });
    await change(other, two.id, { name: 'blue' });
    for (const by of [manager, other]) {
      await vi.waitFor(async () => expect(await answer(by, 'blue')).toEqual({ result: 'two' }), { timeout: 5_000 });
      await vi.waitFor(async () => expectProblem(await by.call('green'), 404, 'function_not_found'), {
        timeout: 5_000,
      });
    }
    expect((await manager.send(`/functions/${one.id}`)).json()).toMatchObject({ name: one.id });
    for (const { id } of [one, two]) await manager.remove(id);
  });
});

describeOnAnyEngine('what users say of a function', (engine) => {
  const stage = Stage.on(engine);

  it('filters the list, page by page', async () => {
    const { manager } = stage;
    const members = [{ team: 'a', tier: '1' }, { team: 'a', tier: '2' }, { team: 'b', tier: '1' }, {}];
    const ids: string[] = [];
    for (const labels of members) ids.push((await added(manager, { labels })).id);
    const found = async (query: string) =>
      ((await manager.send(`/functions?${query}`)).json() as FunctionDto[]).map(({ id }) => ids.indexOf(id));
    expect(await found('label=team%3Da')).toEqual([0, 1]);
    expect(await found('label=team=a&label=tier=2')).toEqual([1]);
    expect(await found('label=tier')).toEqual([0, 1, 2]);
    expect(await found('label=team=c')).toEqual([]);
    expect(await found('status=running&label=team=b')).toEqual([2]);
    expect(await found('status=error')).toEqual([]);
    expect(await found(`name=${ids[3]}`)).toEqual([3]);
    const first = await manager.send('/functions?label=tier&limit=2');
    const next = /<(.+)>; rel="next"/.exec(first.headers['link'] as string)?.[1];
    expect((await manager.send(next!)).json()).toEqual([expect.objectContaining({ id: ids[2] })]);
    for (const id of ids) await manager.remove(id);
  });

  it.each([
    'name=',
    'name=A',
    'name=a&name=b',
    'status=asleep',
    'label=',
    'label=%3Dx',
    'label=a=%00',
    'label=a=1&label=a=2',
  ])('refuses to filter by %s', async (query) => {
    const problem = expectProblem(await stage.manager.send(`/functions?${query}`), 400, 'invalid_page');
    expect(problem.parameter).toBe(query.split('=')[0]);
  });

  it('counts characters, not what they are made of', async () => {
    const one = await added(stage.manager, { description: '😀'.repeat(1_000) });
    await stage.manager.remove(one.id);
    const more = await upload(stage.manager, { description: '😀'.repeat(1_001) });
    expect(expectProblem(more, 400, 'invalid_upload').field).toBe('description');
  });

  it('is no null in a form', async () => {
    for (const member of ['labels', 'env']) {
      const parts = [file(ECHO), field('function_name', 'handle'), field(member, 'null')];
      const answer = await stage.manager.send('/functions', { method: 'POST', ...form(...parts) });
      expect(expectProblem(answer, 400, 'invalid_upload').field).toBe(member);
    }
  });

  it('is merged into what was said before', async () => {
    const { manager } = stage;
    const { id } = await added(manager, { labels: { a: '1', b: '2' }, description: 'first' });
    const { created_at: _, ...after } = (
      await change(manager, id, { labels: { a: null, c: '3' } })
    ).json() as FunctionDto;
    expect(after).toMatchObject({ labels: { b: '2', c: '3' }, description: 'first', name: id });
    expect((await change(manager, id, { labels: null, description: null })).json()).toMatchObject({
      labels: {},
      description: '',
    });
    await manager.remove(id);
  });

  it('is changed only by those who know its version, where they say which', async () => {
    const { manager } = stage;
    const answer = await upload(manager, { name: 'versioned' });
    const { etag } = answer.headers;
    expect(etag).toBe('"1"');
    const { id } = answer.json() as FunctionDto;
    const renamed = await change(manager, 'versioned', { description: 'new' }, { 'If-Match': etag });
    expect(renamed.headers.etag).toBe('"2"');
    expectProblem(await change(manager, id, { enabled: false }, { 'If-Match': etag }), 412, 'version_outdated');
    expectProblem(await change(manager, id, { enabled: false }, { 'If-Match': 'W/"2"' }), 412, 'version_outdated');
    expectProblem(
      await manager.send(`/functions/${id}`, { method: 'DELETE', headers: { 'If-Match': '"1"' } }),
      412,
      'version_outdated',
    );
    const read = await manager.send('/functions/versioned', { headers: { 'If-None-Match': '"2"' } });
    expect(read).toMatchObject({ status: 200, headers: { etag: '"2"' } });
    // What changes nothing is no new version.
    expect((await change(manager, id, { description: 'new' })).headers.etag).toBe('"2"');
    const removed = { method: 'DELETE', headers: { 'If-Match': '"7", "2"' } };
    expect((await manager.send(`/functions/${id}`, removed)).status).toBe(204);
  });

  it('loses no change of many that are made at once', async () => {
    const { manager } = stage;
    const { id } = await added(manager, {});
    const keys = Array.from({ length: 12 }, (_, index) => `k${index}`);
    const answers = await Promise.all(keys.map((key) => change(manager, id, { labels: { [key]: 'x' } })));
    expect(answers.map(({ status }) => status)).toEqual(keys.map(() => 200));
    const { labels } = (await manager.send(`/functions/${id}`)).json() as FunctionDetailDto;
    expect(Object.keys(labels).toSorted()).toEqual(keys.toSorted());
    await manager.remove(id);
  });

  describe('is refused with the member at fault', () => {
    it.each([
      ['name', ''],
      ['name', 'Upper'],
      ['name', '-a'],
      ['name', 'a'.repeat(64)],
      ['name', 'abcdefghijklmnop'],
      ['name', 7],
      ['description', 'x'.repeat(1_001)],
      ['description', 'a\0b'],
      ['description', ['x']],
      ['labels', { '': 'x' }],
      ['labels', { 'a b': 'x' }],
      ['labels', { a: 1 }],
      ['labels', { a: 'x y' }],
      ['labels', Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`k${index}`, '']))],
      ['labels', 'team=web'],
      ['labels', [['a', 'b']]],
      ['enabled', 'yes'],
      ['enabled', 0],
    ])('%s: %j', async (member, value) => {
      const { manager } = stage;
      const refused = expectProblem(await upload(manager, { [member]: value }), 400, 'invalid_upload');
      expect(refused.field).toBe(member);
      const text = typeof value === 'string' ? value : JSON.stringify(value);
      const parts = [file(ECHO), field('function_name', 'handle'), field(member, text)];
      // A form knows no numbers: "7" is a name like any other.
      if (value !== 7) {
        const answer = await manager.send('/functions', { method: 'POST', ...form(...parts) });
        if (!Array.isArray(value) || member !== 'description') {
          expect(expectProblem(answer, 400, 'invalid_upload').field).toBe(member);
        } else await manager.remove((answer.json() as FunctionDto).id);
      }
      const { id } = await manager.add(ECHO);
      expect(expectProblem(await change(manager, id, { [member]: value }), 400, 'invalid_update').field).toBe(member);
      await manager.remove(id);
    });

    it.each([
      ['', 'The body is empty.'],
      ['x', 'The body is not JSON.'],
      ['{"name":"a"', 'The body is not JSON.'],
      ['[]', 'The body is not a JSON object.'],
      ['null', 'The body is not a JSON object.'],
      ['"x"', 'The body is not a JSON object.'],
    ])('no JSON object: %j', async (body, detail) => {
      const { id } = await stage.manager.add(ECHO);
      const problem = expectProblem(await change(stage.manager, id, body), 400, 'invalid_update');
      expect(problem).toMatchObject({ field: 'body', detail: expect.stringContaining(detail) as string });
      await stage.manager.remove(id);
    });

    it('what belongs to the code, and what nobody knows', async () => {
      const { id } = await stage.manager.add(ECHO);
      for (const member of ['timeout_ms', 'function_name', 'Name', '__proto__', 'constructor']) {
        const answer = await change(stage.manager, id, `{"${member}": 1}`);
        expect(expectProblem(answer, 400, 'invalid_update').field).toBe(member);
      }
      await stage.manager.remove(id);
    });

    it('a function that isn’t there', async () => {
      expectProblem(await change(stage.manager, 'nobody', { enabled: true }), 404, 'function_not_found');
      expectProblem(await change(stage.manager, 'a'.repeat(16), { enabled: true }), 404, 'function_not_found');
      expectProblem(await change(stage.manager, '%00', { enabled: true }), 404, 'function_not_found');
    });
  });
});

describeOnAnyEngine('an upload as JSON', (engine) => {
  const stage = Stage.on(engine, { MAX_UPLOAD_BYTES: String(1024 * 1024) });

  it('keeps large code byte for byte', async () => {
    const code = `${ECHO}# ${'\u00e9"\\\u{1f600}\t'.repeat(20_000)}\n`;
    const one = await added(stage.manager, { code });
    expect((await stage.manager.send(`/functions/${one.id}/code`)).text).toBe(code);
    await stage.manager.remove(one.id);
  });

  it.each([
    ['body', 'no JSON', 'x'],
    ['body', 'a list', '[]'],
    ['code', 'no code', '{"function_name":"handle"}'],
    ['code', 'code that is null', '{"function_name":"handle","code":null}'],
    ['code', 'code that is a list', '{"function_name":"handle","code":["x"]}'],
    ['code', 'code with a NUL', '{"function_name":"handle","code":"x\\u0000"}'],
    ['code', 'code with half of a pair', '{"function_name":"handle","code":"x = \\"\\ud800\\""}'],
    ['code', 'code of another encoding', '{"function_name":"handle","code":"# coding: latin-1\\nx = 1"}'],
    ['function_name', 'no name', '{"code":"x = 1"}'],
    ['timeout_ms', 'a number as text', '{"function_name":"handle","code":"x = 1","timeout_ms":"5"}'],
    ['timeout_ms', 'a fraction', '{"function_name":"handle","code":"x = 1","timeout_ms":1.5}'],
    ['python_file', 'the field of the form', '{"function_name":"handle","code":"x = 1","python_file":"x"}'],
    ['__proto__', 'a prototype', '{"function_name":"handle","code":"x = 1","__proto__":{}}'],
    [
      'body',
      'a long text that is not the code',
      `{"function_name":"handle","code":"x","description":"${'x'.repeat(70_000)}"}`,
    ],
    [
      'body',
      'much beside the code',
      `{"function_name":"handle","code":"${'x'.repeat(70_000)}","labels":{${'"a":"b",'.repeat(9_000)}"c":""}}`,
    ],
  ])('is refused with the field %s: %s', async (named, _, body) => {
    const answer = await stage.manager.send('/functions', { method: 'POST', ...json(body) });
    expect(expectProblem(answer, 400, 'invalid_upload').field).toBe(named);
  });

  it('is refused where its code is larger than the limit', async () => {
    const answer = await upload(stage.manager, { code: 'x'.repeat(1024 * 1024 + 1) });
    expect(expectProblem(answer, 413, 'upload_too_large')).toMatchObject({ field: 'code', limit_bytes: 1024 * 1024 });
  });
});
