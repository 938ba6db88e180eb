import { randomBytes } from 'node:crypto';
import { expect, it, vi } from 'vitest';
import type { FunctionDetailDto, SecretDto } from '../client/index.js';
import { expectAsDocumented } from '../support/document.js';
import { describeOnAnyEngine, describeOnEachEngine, describeOnPlainImage } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { callingOn, newKey, putSecret, READING, resultOf, shownAnywhere } from '../support/secrets.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const newValue = () => `value-${randomBytes(12).toString('hex')}`;

describeOnEachEngine('secrets of a function', (engine) => {
  const stage = Stage.on(engine, { SECRETS_KEYS: newKey('k1') });

  it('reach its handler, and nothing else that anybody can look at', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    const value = newValue();
    const made = await putSecret(manager, 'db-password', value);
    expect(made.status, made.text).toBe(201);
    expect(made.headers['location']).toBe('/secrets/db-password');
    expectAsDocumented(made.json(), 'SecretDto');
    const { id } = await manager.add(READING, {
      min_replicas: 1,
      secrets: JSON.stringify({ DB_PASSWORD: 'db-password', 'tls.pem': { file: 'db-password' } }),
    });
    for (const target of ['DB_PASSWORD', 'tls.pem']) {
      const answer = await manager.call(id, target);
      expect(answer.status, answer.text).toBe(200);
      expect(resultOf(answer)).toBe(value);
    }
    const listed = (await manager.send('/secrets')).json() as SecretDto[];
    expect(listed).toEqual([{ ...(made.json() as SecretDto), functions: [{ id, name: id, revisions: [1] }] }]);

    // What a handler does with it carelessly is masked.
    const raised = expectProblem(await manager.call(id, 'raise'), 500, 'handler_error');
    expect(raised.detail).toBe('ValueError: not with ***');
    expect((await manager.call(id, 'print')).status).toBe(200);
    await vi.waitFor(async () => expect((await manager.logOf(id)).join('\n')).toContain('it is ***'), {
      timeout: 10_000,
    });
    expect(await shownAnywhere(stage, id, value)).toEqual([]);
    await manager.remove(id);
  });

  it(
    'of which one changes replace the workers that use it and no others, without a failed call',
    { timeout: 120_000 },
    async () => {
      const { manager } = stage;
      const [former, next] = [newValue(), newValue()];
      await putSecret(manager, 'token', former);
      const secrets = JSON.stringify({ TOKEN: 'token' });
      const using = await manager.add(READING, { secrets, min_replicas: 1 });
      const other = await manager.add(READING, { min_replicas: 1 });
      const who = async (id: string) => resultOf(await manager.call(id, 'who'));
      const [ofUsing, ofOther] = [await who(using.id), await who(other.id)];

      const same = await putSecret(manager, 'token', former);
      expect(same.status).toBe(200);
      const calls = callingOn(manager, using.id, 'TOKEN');
      const changed = await putSecret(manager, 'token', next);
      expect(changed.status, changed.text).toBe(200);
      expect((changed.json() as SecretDto).functions).toEqual([{ id: using.id, name: using.id, revisions: [1] }]);
      await vi.waitFor(
        async () => {
          expect(resultOf(await manager.call(using.id, 'TOKEN'))).toBe(next);
          expect(await stage.room.workers()).toHaveLength(2);
        },
        { timeout: 60_000, interval: 100 },
      );
      const { failures, answers } = await calls.stop();
      expect(failures).toEqual([]);
      expect([former, next]).toEqual(expect.arrayContaining([...answers]));
      expect(await who(using.id)).not.toBe(ofUsing);
      expect(await who(other.id)).toBe(ofOther);
      await Promise.all([manager.remove(using.id), manager.remove(other.id)]);
    },
  );

  it(
    'change for each revision that has calls, which answers all the while those that name it',
    { timeout: 120_000 },
    async () => {
      const { manager } = stage;
      const [former, next] = [newValue(), newValue()];
      await putSecret(manager, 'divided', former);
      const { id } = await manager.add(READING, { secrets: JSON.stringify({ A: 'divided' }), min_replicas: 1 });
      const revised = await manager.send(`/functions/${id}/revisions`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ code: `${READING}\n` }),
      });
      expect(revised.status, revised.text).toBe(201);
      const targets = [
        { revision: 1, percent: 50, tag: 'former' },
        { revision: 2, percent: 50 },
      ];
      const body = JSON.stringify({ targets });
      const divided = await manager.send(`/functions/${id}/traffic`, { method: 'PUT', body });
      expect(divided.status, divided.text).toBe(200);
      const choices = { '?tag=former': '1', '?revision=2': '2' };
      const told = async (payload: string) => {
        const path = `/functions/${id}/execute`;
        const sent = { method: 'POST', body: JSON.stringify({ payload }) };
        return Promise.all(
          Object.keys(choices).map(async (choice) => resultOf(await manager.send(path + choice, sent))),
        );
      };
      const before = await told('who');
      const calls = Object.keys(choices).map((choice) => callingOn(manager, id, 'A', choice));
      const changed = await putSecret(manager, 'divided', next);
      expect((changed.json() as SecretDto).functions).toEqual([{ id, name: id, revisions: [1, 2] }]);
      await vi.waitFor(
        async () => {
          expect(await told('A')).toEqual([next, next]);
          expect(await stage.room.workers()).toHaveLength(2);
        },
        { timeout: 60_000, interval: 100 },
      );
      const seen = await Promise.all(calls.map((one) => one.stop()));
      expect(seen.map(({ failures }) => failures)).toEqual([[], []]);
      expect(seen.map(({ revisions }) => [...revisions])).toEqual(Object.values(choices).map((revision) => [revision]));
      for (const { answers } of seen) expect([former, next]).toEqual(expect.arrayContaining([...answers]));
      expect((await told('who')).filter((worker) => before.includes(worker))).toEqual([]);
      expectProblem(await manager.send('/secrets/divided', { method: 'DELETE' }), 409, 'secret_in_use');
      await manager.remove(id);
    },
  );
});

describeOnAnyEngine('secrets', (engine) => {
  const stage = Stage.on(engine, { SECRETS_KEYS: newKey('k1') });
  const revise = (id: string, members: object) =>
    stage.manager.send(`/functions/${id}/revisions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(members),
    });
  const removed = (name: string) => stage.manager.send(`/secrets/${name}`, { method: 'DELETE' });

  it('stay while a revision that is kept names them, which the refusal tells', async () => {
    const { manager } = stage;
    await putSecret(manager, 'in-use', newValue());
    const added = await manager.add(READING, { name: 'handle', secrets: JSON.stringify({ A: 'in-use' }) });
    const { id } = added;
    expect(added).toMatchObject({ secrets: { A: 'in-use' } });
    const refused = expectProblem(await removed('in-use'), 409, 'secret_in_use');
    expect(refused.functions).toEqual([`${id} (revision 1)`]);
    expect((await revise(id, { secrets: {} })).status).toBe(201);
    // One could go back to the former one.
    expectProblem(await removed('in-use'), 409, 'secret_in_use');
    expect((await manager.send(`/functions/${id}/revisions/1`, { method: 'DELETE' })).status).toBe(204);
    expect((await removed('in-use')).status).toBe(204);
    expectProblem(await removed('in-use'), 404, 'secret_not_found');
    await manager.remove(id);
  });

  it('belong to the revision that names them, and come back with it', async () => {
    const { manager } = stage;
    const [one, two] = [newValue(), newValue()];
    await putSecret(manager, 'one', one);
    await putSecret(manager, 'two', two);
    const { id } = await manager.add(READING, { secrets: JSON.stringify({ A: 'one' }) });
    expect((await revise(id, { secrets: { A: 'two' } })).status).toBe(201);
    expect(resultOf(await manager.call(id, 'A'))).toBe(two);
    const back = await manager.send(`/functions/${id}/rollback`, { method: 'POST', body: '{}' });
    expect(back.json()).toMatchObject({ revision: 1, secrets: { A: 'one' } });
    expect(resultOf(await manager.call(id, 'A'))).toBe(one);
    await manager.remove(id);
  });

  it.each([
    ['{"A": "nobody"}', 'There is no secret nobody: make it with PUT /secrets/nobody.'],
    ['{"PATH": "x"}', 'the name "PATH" is reserved'],
    ['{"FAAS_SECRETS_DIR": "x"}', 'is reserved'],
    ['{"../up": {"file": "x"}}', 'the name "../up" is no file’s'],
    ['{"A": {"files": "x"}}', '"A" must have the name of a secret'],
    ['{"A": "Not A Name"}', '"A" must name a secret'],
    ['{"A": 1}', '"A" must have the name of a secret'],
    ['[]', 'secrets must be a JSON object'],
    [JSON.stringify(Object.fromEntries(Array.from({ length: 17 }, (_, n) => [`A${n}`, 'x']))), 'has 17 members'],
  ])('that an upload asks for wrongly are refused: %s', async (secrets, message) => {
    const body = new FormData();
    body.set('python_file', new Blob([ECHO]));
    for (const [name, value] of Object.entries({ function_name: 'handle', secrets })) body.set(name, value);
    const answer = await fetch(`${stage.manager.url}/functions`, { method: 'POST', body });
    const problem = (await answer.json()) as { detail: string };
    expect(problem).toMatchObject({ status: 400, code: 'invalid_upload', field: 'secrets' });
    expect(problem.detail).toContain(message);
  });

  it('may not have a variable’s name that env has', async () => {
    await putSecret(stage.manager, 'twice', newValue());
    const body = JSON.stringify({ function_name: 'handle', code: ECHO, env: { A: '' }, secrets: { A: 'twice' } });
    const headers = { 'Content-Type': 'application/json' };
    const problem = expectProblem(
      await stage.manager.send('/functions', { method: 'POST', headers, body }),
      400,
      'invalid_upload',
    );
    expect(problem).toMatchObject({ field: 'secrets', detail: 'secrets: the variable "A" is in env, too.' });
  });

  it('with values that can’t be some are refused, without a word of them', async () => {
    const sent = async (body: string, name = 'refused') =>
      expectProblem(await stage.manager.send(`/secrets/${name}`, { method: 'PUT', body }), 400, 'invalid_secret');
    expect((await sent('{"value": ""}')).field).toBe('value');
    expect((await sent('{"value": "a\\u0000b"}')).field).toBe('value');
    expect((await sent(JSON.stringify({ value: 'x'.repeat(65_537) }))).detail).toContain('65537 bytes');
    expect((await sent('{"value": 17}')).detail).toBe('value must be a string.');
    const careless = await sent('{"value": "a", "hunter2": 1}');
    expect(JSON.stringify(careless)).not.toContain('hunter2');
    expect(JSON.stringify(await sent('hunter2'))).not.toContain('hunter2');
    expect((await sent('{"value": "a"}', 'Not-A-Name')).field).toBe('name');
    expect((await putSecret(stage.manager, 'largest', 'é'.repeat(32_768))).status).toBe(201);
  });
});

describeOnAnyEngine('keys of secrets', (engine) => {
  const [first, second, wrong] = [newKey('k1'), newKey('k2'), newKey('k1')];
  const stage = Stage.on(engine, { SECRETS_KEYS: first });
  const listed = async (manager = stage.manager) => (await manager.send('/secrets')).json() as SecretDto[];
  const keysUsed = async () => [...new Set((await listed()).map(({ key }) => key))];

  it(
    'are changed while functions are called, without a failed call or a worker less',
    { timeout: 120_000 },
    async () => {
      const { manager } = stage;
      const value = newValue();
      await putSecret(manager, 'rotated', value);
      const { id } = await manager.add(READING, { secrets: '{"A": "rotated"}', min_replicas: 1 });
      const who = resultOf(await manager.call(id, 'who'));
      const calls = callingOn(manager, id, 'A');
      const both = await stage.start({ SECRETS_KEYS: `${second},${first}` });
      await vi.waitFor(async () => expect(await keysUsed()).toEqual(['k2']), { timeout: 30_000, interval: 100 });
      const onlyNew = await stage.start({ SECRETS_KEYS: second });
      await vi.waitFor(async () => expect(await stage.room.workers()).toHaveLength(1), { timeout: 30_000 });
      const { failures, answers } = await calls.stop();
      expect(failures).toEqual([]);
      expect([...answers]).toEqual([value]);
      expect(resultOf(await onlyNew.call(id, 'who'))).toBe(who);
      // A worker that starts from now on gets what was encrypted anew.
      expect((await putSecret(onlyNew, 'rotated', 'another one')).status).toBe(200);
      await vi.waitFor(async () => expect(resultOf(await both.call(id, 'A'))).toBe('another one'), {
        timeout: 30_000,
        interval: 100,
      });
      await Promise.all([both.stop(), manager.remove(id)]);
    },
  );

  it('that are wrong are named at boot, and nothing is lost', { timeout: 120_000 }, async () => {
    const right = await stage.start({ SECRETS_KEYS: first });
    const value = newValue();
    await putSecret(right, 'sealed', value);
    const asleep = await right.add(READING, { secrets: '{"A": "sealed"}', idle_timeout_ms: 500 });
    const awake = await right.add(READING, { secrets: '{"A": "sealed"}', min_replicas: 1 });
    const other = await right.add(ECHO, { min_replicas: 1 });
    const statusOf = async (id: string) => ((await right.send(`/functions/${id}`)).json() as FunctionDetailDto).status;
    await vi.waitFor(async () => expect(await statusOf(asleep.id)).toBe('idle'), { timeout: 30_000, interval: 100 });

    const mistaken = await stage.start({ SECRETS_KEYS: wrong });
    await vi.waitFor(() => expect(mistaken.log).toContain('a secret can’t be read'), { timeout: 30_000 });
    expect(mistaken.log).toMatch(/"secret":"sealed","key":"k1"/);
    // What runs goes on, what needs the secret says why it can't start, and all else works.
    expect(resultOf(await mistaken.call(awake.id, 'A'))).toBe(value);
    const refused = expectProblem(await mistaken.call(asleep.id, 'A'), 409, 'function_not_runnable');
    expect(refused.detail).toContain('The secret sealed can\'t be read: the key "k1" does not open it');
    expect((await mistaken.call(other.id, 'x')).status).toBe(200);
    const body = JSON.stringify({ function_name: 'handle', code: READING, secrets: { A: 'sealed' } });
    const headers = { 'Content-Type': 'application/json' };
    expectProblem(await mistaken.send('/functions', { method: 'POST', headers, body }), 409, 'secret_unreadable');
    const revised = await mistaken.send(`/functions/${awake.id}/revisions`, { method: 'POST', headers, body: '{}' });
    expectProblem(revised, 409, 'secret_unreadable');
    expect((await mistaken.send('/functions', { method: 'POST', ...upload(ECHO) })).status).toBe(201);
    await mistaken.stop();

    const again = await stage.start({ SECRETS_KEYS: first });
    await vi.waitFor(
      async () => {
        const answer = await again.call(asleep.id, 'A');
        expect(answer.status, answer.text).toBe(200);
        expect(resultOf(answer)).toBe(value);
      },
      { timeout: 60_000, interval: 200 },
    );
    expect(resultOf(await again.call(awake.id, 'A'))).toBe(value);
    await Promise.all([asleep, awake, other].map(({ id }) => again.remove(id)));
    await right.stop();
  });
});

describeOnAnyEngine('the list of secrets', (engine) => {
  const stage = Stage.on(engine, { SECRETS_KEYS: newKey('k1') });

  it('comes in pages where it is asked for so', async () => {
    const { manager } = stage;
    const names = ['a', 'b-1', 'b-2', 'c', 'd'];
    for (const name of names.toReversed()) await putSecret(manager, name, newValue());
    const seen: string[][] = [];
    let next: string | undefined = '/secrets?limit=2';
    while (next !== undefined) {
      const answer = await manager.send(next);
      expect(answer.status, answer.text).toBe(200);
      seen.push((answer.json() as SecretDto[]).map(({ name }) => name));
      next = /^<([^>]+)>; rel="next"$/.exec(String(answer.headers['link'] ?? ''))?.[1];
    }
    expect(seen).toEqual([['a', 'b-1'], ['b-2', 'c'], ['d']]);
    const whole = await manager.send('/secrets');
    expect((whole.json() as SecretDto[]).map(({ name }) => name)).toEqual(names);
    expect(whole.headers['link']).toBeUndefined();
    for (const [query, parameter] of [
      ['limit=0', 'limit'],
      ['limit=x', 'limit'],
      ['after=A%20b', 'after'],
    ]) {
      const refused = expectProblem(await manager.send(`/secrets?${query}`), 400, 'invalid_page');
      expect(refused['parameter']).toBe(parameter);
    }
  });
});

describeOnAnyEngine('a manager without a key for secrets', (engine) => {
  const stage = Stage.on(engine);

  it('says what to set, and does all else', async () => {
    const { manager } = stage;
    const refused = expectProblem(await putSecret(manager, 'any', newValue()), 409, 'secrets_not_configured');
    expect(refused.detail).toContain('SECRETS_KEYS');
    expect((await manager.send('/secrets')).json()).toEqual([]);
    const { id } = await manager.add(ECHO);
    expect((await manager.call(id, 'x')).status).toBe(200);
    await manager.remove(id);
  });
});

await describeOnPlainImage('secrets where the image offers the bare contract', (engine) => {
  const stage = Stage.on(engine, { SECRETS_KEYS: newKey('k1') });

  it('are refused with the reason, or given by the cluster itself', { timeout: 120_000 }, async () => {
    const { manager } = stage;
    await putSecret(manager, 'unseen', newValue());
    const body = JSON.stringify({ function_name: 'handle', code: ECHO, secrets: { A: 'unseen' } });
    const headers = { 'Content-Type': 'application/json' };
    const answer = await manager.send('/functions', { method: 'POST', headers, body });
    if (engine.name === 'kubernetes') return expect(answer.status, answer.text).toBe(201);
    const problem = expectProblem(answer, 503, 'function_not_ready');
    expect(problem.detail).toContain('can’t take the secrets of a function');
  });
});
