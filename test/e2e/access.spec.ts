import { mkdtempSync } from 'node:fs';
import { readFile, rm, stat } from 'node:fs/promises';
import type { OutgoingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { listFunctions } from '../client/index.js';
import { describeOnAnyEngine, describeOnDocker, describeOnProcesses } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { anAddress, expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const KEYS = ['first-key-0123456789', 'second-key-0123456789'] as const;
const SECRETS = { HARBOR_URL: 'https://registry.example', HARBOR_USER: 'puller', HARBOR_PASS: 'registry-secret-0123' };
const outside = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.on('connect', () => socket.destroy());
    socket.on('error', () => resolve(false));
    socket.on('close', (hadError) => resolve(!hadError));
  });
}

// Where workers share the loopback with everybody, a manager makes a key of its own.
describeOnDocker('a manager without API keys', (engine) => {
  const stage = Stage.on(engine);
  const ask = async (headers: OutgoingHttpHeaders) => [
    await stage.manager.send('/functions', { headers }),
    await stage.manager.send('/metrics', { headers }),
    await stage.manager.send('/functions/aaaaaaaaaaaaaaaa/execute', {
      method: 'POST',
      body: '{"payload":""}',
      headers,
    }),
  ];

  it('listens on loopback only', async () => {
    expect(await accepts('127.0.0.1', stage.manager.port)).toBe(true);
    if (outside !== undefined) expect(await accepts(outside, stage.manager.port)).toBe(false);
  });

  it.each([
    { Host: 'evil.example' },
    { Host: 'localhost.evil.example' },
    { Host: '127.0.0.1.evil.example:8080' },
    { Host: 'evil.example#@localhost' },
    { Host: '0.0.0.0' },
    { Origin: 'https://evil.example' },
    { Origin: 'null' },
    { Origin: 'http://localhost.evil.example' },
    { Origin: 'http://127.0.0.1:9', 'Sec-Fetch-Site': 'same-site' },
    { Host: 'localhost:9', Origin: 'http://localhost:3000' },
    { 'Sec-Fetch-Site': 'same-site' },
    { 'Sec-Fetch-Site': 'cross-site' },
  ])('refuses what a page of another origin could send: %j', async (headers) => {
    for (const answer of await ask(headers)) expectProblem(answer, 403, 'foreign_origin');
  });

  it.each([
    { Host: 'localhost' },
    { Host: 'LOCALHOST:9' },
    { Host: '127.8.8.8:9' },
    { Host: '[::1]:9' },
    { Host: 'localhost:9', Origin: 'http://localhost:9', 'Sec-Fetch-Site': 'same-origin' },
    { Host: '[::1]:9', Origin: 'http://[::1]:9' },
    { 'Sec-Fetch-Site': 'none' },
    { 'X-Api-Key': 'not-asked-for' },
  ])('answers what programs of this machine and its own pages send: %j', async (headers) => {
    const [list, metrics, call] = await ask(headers);
    expect([list!.status, metrics!.status]).toEqual([200, 200]);
    expectProblem(call!, 404, 'function_not_found');
  });
});

const ASKING = `
import json, urllib.error, urllib.request

def handle(payload):
    asked = json.loads(payload)
    try:
        with open(asked["file"]) as file:
            read = file.read()
    except OSError as error:
        read = type(error).__name__
    try:
        status = urllib.request.urlopen(asked["url"]).status
    except urllib.error.HTTPError as error:
        status = error.code
    return {"read": read, "status": status}
`;

describeOnProcesses('a manager of processes without API keys', (engine) => {
  const folder = mkdtempSync(join(tmpdir(), 'faas-storage-'));
  const file = join(folder, 'api-key');
  const env = { AUTH_DISABLED: '', LISTEN_ADDR: ':0', FUNCTION_STORAGE_DIR: folder };
  const stage = Stage.on(engine, env);
  const headers = async () => ({ 'X-Api-Key': (await readFile(file, 'utf8')).trim() });
  afterAll(() => rm(folder, { recursive: true }));

  it('listens on loopback only, and asks even there for a key that it has made', async () => {
    if (outside !== undefined) expect(await accepts(outside, stage.manager.port)).toBe(false);
    expectProblem(await stage.manager.send('/functions'), 401, 'unauthorized');
    expectProblem(await stage.manager.call('aaaaaaaaaaaaaaaa'), 401, 'unauthorized');
    expect((await stage.manager.send('/functions', { headers: await headers() })).status).toBe(200);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  it('says where the key is, and never what it is', async () => {
    expect(stage.manager.log).toContain(file);
    expect(stage.manager.log).not.toContain((await headers())['X-Api-Key']);
  });

  it('shares the key with other managers of the folder', async () => {
    const other = await stage.start(env);
    expect((await other.send('/functions', { headers: await headers() })).status).toBe(200);
  });

  it('lets in no handler, nor lets one read the key where each has a user of its own', async () => {
    const form = upload(ASKING);
    const sent = { ...form, headers: { ...form.headers, ...(await headers()) } };
    const answer = await stage.manager.send('/functions', { method: 'POST', ...sent });
    expect(answer.status, answer.text).toBe(201);
    const { id } = answer.json() as { id: string };
    const asked = JSON.stringify({ file, url: `${stage.manager.url}/functions` });
    const { result } = (await stage.manager.call(id, asked, { headers: await headers() })).json() as {
      result: { status: number; read: string };
    };
    expect(result.status).toBe(401);
    if (process.geteuid?.() === 0) expect(result.read).toBe('PermissionError');
    await stage.manager.send(`/functions/${id}`, { method: 'DELETE', headers: await headers() });
  });
});

describeOnAnyEngine('a manager with API keys', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: KEYS.join(', '), ...SECRETS });
  const ask = (headers: OutgoingHttpHeaders, from?: string) => {
    const sent = { headers, ...(from === undefined ? {} : { from }) };
    return Promise.all([
      stage.manager.send('/functions', sent),
      stage.manager.send('/functions/aaaaaaaaaaaaaaaa', { method: 'DELETE', ...sent }),
      stage.manager.send('/functions/aaaaaaaaaaaaaaaa/execute', { method: 'POST', body: '{"payload":""}', ...sent }),
    ]);
  };
  const WRONG: OutgoingHttpHeaders[] = [
    {},
    { Authorization: '' },
    { Authorization: 'Bearer' },
    { Authorization: 'Bearer ' },
    { Authorization: KEYS[0] },
    { Authorization: `Basic ${KEYS[0]}` },
    { Authorization: `Bearer ${KEYS[0]}x` },
    { Authorization: `Bearer ${KEYS[0].slice(0, -1)}` },
    { Authorization: `Bearer ${KEYS.join(', ')}` },
    { Authorization: 'Bearer some-guessed-key-000' },
    { 'X-Api-Key': '' },
    { 'X-Api-Key': KEYS[0].toUpperCase() },
    { 'X-Api-Key': 'some-guessed-key-000', Authorization: `Bearer ${KEYS[0]}` },
  ];

  it.each(WRONG.map((headers, index) => [headers, anAddress(index)] as const))(
    'answers 401 to %j',
    async (headers, from) => {
      for (const answer of await ask(headers, from)) {
        expectProblem(answer, 401, 'unauthorized');
        expect(answer.headers['www-authenticate']).toBe('Bearer realm="service-faas"');
      }
      expectProblem(await stage.manager.send('/healthz', { headers, from }), 401, 'unauthorized');
    },
  );

  it.each(KEYS)('knows the key %s as a bearer token and as X-Api-Key, from any host', async (key) => {
    for (const headers of [
      { Authorization: `Bearer ${key}` },
      { authorization: `bearer   ${key}`, Host: 'faas.example', Origin: 'https://faas.example' },
      { 'X-Api-Key': key, 'Sec-Fetch-Site': 'cross-site' },
    ]) {
      const answers = await ask(headers);
      expect(answers.map(({ status }) => status)).toEqual([200, 404, 404]);
    }
  });

  it('serves the generated client, which sends its key by itself', async () => {
    const { id } = await stage.manager.add(ECHO);
    const { data } = await listFunctions({ client: stage.manager.client });
    expect(data?.map((listed) => listed.id)).toEqual([id]);
    const headers = { 'X-Api-Key': KEYS[1] };
    expect((await stage.manager.call(id, 'x', { headers })).text).toBe('{"result":"x"}');
    await stage.manager.send(`/functions/${id}`, { method: 'DELETE', headers });
  });

  it('leaves probes and documentation open, and lets no page frame them', async () => {
    for (const path of ['/livez', '/readyz', '/docs', '/docs/doc.json', '/docs/doc.yaml']) {
      const { status, headers } = await stage.manager.send(path);
      expect(status).toBe(200);
      expect(headers).toMatchObject({
        'x-frame-options': 'DENY',
        'content-security-policy': "frame-ancestors 'none'",
        'x-content-type-options': 'nosniff',
      });
    }
  });

  it('never shows a secret, in no answer and not in its log', async () => {
    const headers = { Authorization: `Bearer ${KEYS[0]}`, Cookie: 'session=cookie-secret-0123' };
    const answers = [
      ...(await ask(headers)),
      ...(await ask({ Authorization: 'Bearer some-guessed-key-000' }, anAddress(100))),
      await stage.manager.send('/healthz', { headers }),
      await stage.manager.send('/nowhere', { headers }),
      await stage.manager.send('/functions', { method: 'POST', body: 'x', headers }),
    ];
    const { password } = new URL(stage.databaseUrl);
    const secrets = [...KEYS, 'some-guessed-key-000', 'cookie-secret-0123', SECRETS.HARBOR_PASS, password].filter(
      Boolean,
    );
    const shown = answers.map(({ text, headers: given }) => text + JSON.stringify(given)).join('') + stage.manager.log;
    expect(stage.manager.log).toContain('"path":"/nowhere"');
    for (const secret of secrets) expect(shown).not.toContain(secret);
  });
});

const KEY_OF = {
  admin: 'key-of-the-operators',
  deploy: 'key-of-the-pipeline-',
  invoke: 'key-of-the-devices--',
  metrics: 'key-of-prometheus---',
} as const;
type Scope = keyof typeof KEY_OF;

describeOnAnyEngine('a manager with keys of one scope each', (engine) => {
  const entries = Object.entries(KEY_OF).map(([scope, key]) => `the-${scope}-key:${scope}:${key}`);
  const CALLBACKS_SECRETS = 'a-secret-of-callbacks-0123456789';
  const stage = Stage.on(engine, { API_KEYS: entries.join('\n'), CALLBACKS_SECRETS });
  const ID = 'aaaaaaaaaaaaaaaa';
  const ROUTES: Record<string, { ask: [method: string, path: string]; for: Scope }> = {
    'adding a function': { ask: ['POST', '/functions'], for: 'deploy' },
    'listing functions': { ask: ['GET', '/functions'], for: 'deploy' },
    'reading a function': { ask: ['GET', `/functions/${ID}`], for: 'deploy' },
    'reading code': { ask: ['GET', `/functions/${ID}/code`], for: 'deploy' },
    'reading logs': { ask: ['GET', `/functions/${ID}/logs`], for: 'deploy' },
    'removing a function': { ask: ['DELETE', `/functions/${ID}`], for: 'deploy' },
    'listing calls for later': { ask: ['GET', `/functions/${ID}/invocations`], for: 'deploy' },
    'redriving calls for later': { ask: ['POST', `/functions/${ID}/invocations/redrive`], for: 'deploy' },
    'listing schedules': { ask: ['GET', `/functions/${ID}/schedules`], for: 'deploy' },
    'setting a schedule': { ask: ['PUT', `/functions/${ID}/schedules/nightly`], for: 'deploy' },
    'removing a schedule': { ask: ['DELETE', `/functions/${ID}/schedules/nightly`], for: 'deploy' },
    'calling a function later': { ask: ['POST', `/functions/${ID}/invocations`], for: 'invoke' },
    'calling a function': { ask: ['POST', `/functions/${ID}/execute`], for: 'invoke' },
    'calling a function by its longer path': { ask: ['POST', `/functions/${ID}/execute/?`], for: 'invoke' },
    'reading metrics': { ask: ['GET', '/metrics'], for: 'metrics' },
    'reading health in detail': { ask: ['GET', '/healthz'], for: 'admin' },
  };

  it.each(Object.entries(ROUTES))('lets only its own scope and admin in for %s', async (_what, route) => {
    const [method, path] = route.ask;
    for (const [scope, key] of Object.entries(KEY_OF)) {
      const answer = await stage.manager.send(path, { method, headers: { 'X-Api-Key': key } });
      if (scope === 'admin' || scope === route.for) {
        expect([200, 400, 404], `${scope}: ${answer.text}`).toContain(answer.status);
        continue;
      }
      const { detail } = expectProblem(answer, 403, 'forbidden');
      expect(detail).toContain(`The key "the-${scope}-key" is of scope ${scope}: this needs one of scope ${route.for}`);
    }
  });

  it('shows what is secret of a default callback to those alone who may set it, and keeps it from the others', async () => {
    const { manager } = stage;
    const ask = (key: string, path: string, sent: { method: string; body?: string } = { method: 'GET' }) =>
      manager.send(path, { ...sent, headers: { 'X-Api-Key': key, 'Content-Type': 'application/json' } });
    const code = JSON.stringify({ code: ECHO, function_name: 'handle' });
    const added = await ask(KEY_OF.deploy, '/functions', { method: 'POST', body: code });
    const { id } = added.json() as { id: string };
    const path = `/functions/${id}`;
    const set = (key: string, defaults: object) =>
      ask(key, path, { method: 'PATCH', body: JSON.stringify({ invocation_defaults: defaults }) });
    const defaultsIn = (answer: { json: () => unknown }) =>
      (answer.json() as { invocation_defaults: object }).invocation_defaults;
    const [whole, shown] = ['https://me.example/hook?token=secret', 'https://me.example/hook'];
    expectProblem(await set(KEY_OF.deploy, { callback_url: whole }), 403, 'forbidden');
    expect(defaultsIn(await set(KEY_OF.admin, { callback_url: whole }))).toEqual({ callback_url: whole });
    expect(defaultsIn(await ask(KEY_OF.deploy, path))).toEqual({ callback_url: shown });
    const listed = (await ask(KEY_OF.deploy, `/functions?name=${id}`)).json();
    expect(listed).toMatchObject([{ invocation_defaults: { callback_url: shown } }]);
    const asRead = await set(KEY_OF.deploy, { callback_url: shown, max_attempts: 5 });
    expect(defaultsIn(asRead)).toEqual({ callback_url: shown, max_attempts: 5 });
    expect(defaultsIn(await ask(KEY_OF.admin, path))).toEqual({ callback_url: whole, max_attempts: 5 });
    expectProblem(await set(KEY_OF.deploy, { callback_url: `${shown}?` }), 403, 'forbidden');
    const hidden = (await set(KEY_OF.admin, { callback_url: 'https://10.0.0.1' })).json();
    expect(hidden).toMatchObject({ status: 400, field: 'invocation_defaults' });
    expect(defaultsIn(await set(KEY_OF.admin, { callback_url: shown }))).toMatchObject({ callback_url: shown });
    expect((await ask(KEY_OF.admin, path, { method: 'DELETE' })).status).toBe(204);
  });

  it('writes down who changed what, from where, and what came of it', async () => {
    const headers = { 'X-Api-Key': KEY_OF.deploy, 'X-Request-Id': 'the-add' };
    const body = upload(ECHO);
    const added = await stage.manager.send('/functions', {
      method: 'POST',
      ...body,
      headers: { ...body.headers, ...headers },
    });
    const { id } = added.json() as { id: string };
    const schedule = (method: string, key: string, requestId: string) =>
      stage.manager.send(`/functions/${id}/schedules/nightly`, {
        ...{ method, headers: { 'X-Api-Key': key, 'X-Request-Id': requestId } },
        ...(method === 'PUT' && { body: '{"cron": "@daily"}' }),
      });
    expect((await schedule('PUT', KEY_OF.deploy, 'the-schedule')).json()).toMatchObject({
      updated_by: 'the-deploy-key',
    });
    expect((await schedule('PUT', KEY_OF.invoke, 'no-schedule')).status).toBe(403);
    const toMe = { method: 'PUT', body: '{"cron": "@daily", "callback_url": "https://10.0.0.1"}' };
    const told = (key: string) =>
      stage.manager.send(`/functions/${id}/schedules/nightly`, { ...toMe, headers: { 'X-Api-Key': key } });
    expect(expectProblem(await told(KEY_OF.deploy), 403, 'forbidden').detail).toContain('of scope admin');
    expect((await told(KEY_OF.admin)).json()).toMatchObject({ status: 400, field: 'callback_url' });
    expect((await schedule('GET', KEY_OF.invoke, 'no-look')).status).toBe(403);
    expect((await schedule('DELETE', KEY_OF.admin, 'the-unscheduling')).status).toBe(204);
    const remove = (path: string, requestId: string, key: string) =>
      stage.manager.send(path, { method: 'DELETE', headers: { 'X-Api-Key': key, 'X-Request-Id': requestId } });
    await remove(`/functions/${id}`, 'the-removal', KEY_OF.admin);
    await remove(`/functions/${id}`, 'the-second-removal', KEY_OF.admin);
    await remove('/functions/no%0Aid', 'the-third-removal', KEY_OF.admin);
    await stage.manager.send('/functions', {
      method: 'POST',
      body: 'x',
      headers: { ...headers, 'X-Request-Id': 'no-add' },
    });
    const lines = stage.manager.log.split('\n').filter((line) => line.includes('"audit":true'));
    const audits = lines.map((line) => JSON.parse(line) as { requestId: string });
    const of = (requestId: string) => audits.filter((one) => one.requestId === requestId);
    const [deploy, admin] = ['the-deploy-key', 'the-admin-key'];
    const here = { address: '127.0.0.1', level: 'info' };
    expect(of('the-add')).toMatchObject([{ action: 'add', key: deploy, functionId: id, outcome: 'ok', ...here }]);
    const nightly = { functionId: id, schedule: 'nightly', outcome: 'ok', ...here };
    expect(of('the-schedule')).toMatchObject([{ action: 'put schedule', key: deploy, ...nightly }]);
    expect(of('the-unscheduling')).toMatchObject([{ action: 'remove schedule', key: admin, ...nightly }]);
    expect(of('no-schedule')).toEqual([]);
    expect(of('the-removal')).toMatchObject([{ action: 'remove', key: admin, functionId: id, outcome: 'ok', ...here }]);
    const gone = { action: 'remove', key: admin, outcome: 'function_not_found', ...here };
    expect(of('the-second-removal')).toMatchObject([{ ...gone, functionId: id }]);
    expect(of('the-third-removal')).toMatchObject([{ ...gone, functionId: null }]);
    expect(of('no-add')).toMatchObject([{ action: 'add', key: deploy, functionId: null, outcome: 'invalid_upload' }]);
  });

  it('counts and writes down who was refused for what', async () => {
    const from = anAddress(101);
    await stage.manager.send(`/functions/${ID}?api_key=secret-in-a-query`, {
      method: 'DELETE',
      from,
      headers: { 'X-Api-Key': KEY_OF.metrics, 'X-Request-Id': 'the-refused' },
    });
    const lines = stage.manager.log.split('\n').filter((line) => line.includes('"the-refused"'));
    expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
      {
        level: 'warn',
        msg: 'access refused',
        reason: 'wrong_scope',
        key: 'the-metrics-key',
        method: 'DELETE',
        route: '/functions/:id',
        ...(from === undefined ? {} : { address: from }),
      },
    ]);
    expect(lines.join()).not.toMatch(new RegExp(`${ID}|secret-in-a-query|${KEY_OF.metrics}`));
    const { text } = await stage.manager.send('/metrics', { headers: { 'X-Api-Key': KEY_OF.metrics } });
    expect(text).toMatch(/^faas_auth_refusals_total\{reason="wrong_scope",scope="deploy"\} \d+$/m);
  });
});

describeOnAnyEngine('a manager with AUTH_DISABLED', (engine) => {
  const stage = Stage.on(engine, { AUTH_DISABLED: 'true', LISTEN_ADDR: '0.0.0.0:0' });

  it('answers programs and its own pages under any name on every interface', async () => {
    for (const headers of [
      { Host: 'faas.example' },
      { Host: 'faas.example', Origin: 'https://faas.example', 'Sec-Fetch-Site': 'same-origin' },
    ]) {
      expect((await stage.manager.send('/functions', { headers })).status).toBe(200);
    }
    if (outside !== undefined) expect(await accepts(outside, stage.manager.port)).toBe(true);
  });

  it.each([
    { Origin: 'http://127.0.0.1:9', 'Sec-Fetch-Site': 'same-site' },
    { Origin: 'https://evil.example' },
    { Origin: 'null' },
    { 'Sec-Fetch-Site': 'cross-site' },
  ])('lets no page of another origin upload or run code: %j', async (headers) => {
    const form = upload(ECHO);
    const add = { method: 'POST', ...form, headers: { ...form.headers, ...headers } };
    expectProblem(await stage.manager.send('/functions', add), 403, 'foreign_origin');
    expectProblem(await stage.manager.call('aaaaaaaaaaaaaaaa', '', { headers }), 403, 'foreign_origin');
    expect((await stage.manager.send('/functions')).json()).toEqual([]);
  });

  it('sends nothing that lets a page of another origin read answers', async () => {
    const headers = { Origin: 'https://evil.example', 'Access-Control-Request-Method': 'POST' };
    const asked = await stage.manager.send('/functions', { method: 'OPTIONS', headers });
    for (const { headers: given } of [asked, await stage.manager.send('/livez', { headers })]) {
      expect(Object.keys(given).filter((name) => name.startsWith('access-control'))).toEqual([]);
    }
  });
});

describeOnAnyEngine('a manager with CORS_ORIGINS', (engine) => {
  const ORIGIN = 'https://console.example:8443';
  const stage = Stage.on(engine, { AUTH_DISABLED: 'true', CORS_ORIGINS: `https://other.example, ${ORIGIN}` });
  const from = (Origin: string, more: OutgoingHttpHeaders = {}) => ({
    headers: { Origin, 'Sec-Fetch-Site': 'cross-site', ...more },
  });

  it('says before a request of such a page that it may send it', async () => {
    const wish = {
      'Access-Control-Request-Method': 'POST',
      'Access-Control-Request-Headers': 'authorization,x-api-key',
    };
    const asked = await stage.manager.send('/functions/aaaaaaaaaaaaaaaa/execute', {
      method: 'OPTIONS',
      ...from(ORIGIN, wish),
    });
    expect(asked).toMatchObject({ status: 204, text: '' });
    expect(asked.headers).toMatchObject({
      'access-control-allow-origin': ORIGIN,
      'access-control-allow-methods': 'GET,HEAD,POST,PUT,PATCH,DELETE',
      'access-control-allow-headers': 'authorization,x-api-key',
      vary: expect.stringContaining('Origin') as string,
    });
  });

  it('lets such a page call, and read the answers', async () => {
    const { id } = await stage.manager.add(ECHO);
    const answers = [
      await stage.manager.send('/functions', from(ORIGIN)),
      await stage.manager.call(id, 'x', from(ORIGIN)),
      await stage.manager.call('aaaaaaaaaaaaaaaa', 'x', from(ORIGIN)),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 404]);
    for (const { headers } of answers) {
      expect(headers['access-control-allow-origin']).toBe(ORIGIN);
      expect(headers['access-control-expose-headers']).toContain('X-Request-Id');
      expect(headers).not.toHaveProperty('access-control-allow-credentials');
    }
    await stage.manager.remove(id);
  });

  it.each(['https://console.example', 'http://console.example:8443', 'https://evil.example', 'null'])(
    'lets no page of %s do so',
    async (origin) => {
      const answer = await stage.manager.send('/functions', from(origin));
      expectProblem(answer, 403, 'foreign_origin');
      expect(answer.headers).not.toHaveProperty('access-control-allow-origin');
    },
  );

  it('goes on telling of methods what it tells without', async () => {
    const answer = await stage.manager.send('/functions', { method: 'OPTIONS' });
    expect(answer).toMatchObject({ status: 204, headers: { allow: 'GET, HEAD, POST' } });
  });
});
