import type { OutgoingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { expect, it } from 'vitest';
import { listFunctions } from '../client/index.js';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';

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

describeOnAnyEngine('a manager without API keys', (engine) => {
  const stage = Stage.on(engine);
  const ask = async (headers: OutgoingHttpHeaders) => [
    await stage.manager.send('/functions', { headers }),
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
    { 'Sec-Fetch-Site': 'cross-site' },
  ])('refuses what a page of another site could send: %j', async (headers) => {
    for (const answer of await ask(headers)) expectProblem(answer, 403, 'foreign_origin');
  });

  it.each([
    { Host: 'localhost' },
    { Host: 'LOCALHOST:9' },
    { Host: '127.8.8.8:9' },
    { Host: '[::1]:9' },
    { Origin: 'http://localhost:3000', 'Sec-Fetch-Site': 'same-site' },
    { Origin: 'http://[::1]', 'Sec-Fetch-Site': 'same-origin' },
    { 'Sec-Fetch-Site': 'none' },
  ])('answers what programs and pages of this machine send: %j', async (headers) => {
    const [list, call] = await ask(headers);
    expect(list!.status).toBe(200);
    expectProblem(call!, 404, 'function_not_found');
  });
});

describeOnAnyEngine('a manager with API keys', (engine) => {
  const stage = Stage.on(engine, { API_KEYS: KEYS.join(', '), ...SECRETS });
  const ask = (headers: OutgoingHttpHeaders) =>
    Promise.all([
      stage.manager.send('/functions', { headers }),
      stage.manager.send('/functions/aaaaaaaaaaaaaaaa', { method: 'DELETE', headers }),
      stage.manager.send('/functions/aaaaaaaaaaaaaaaa/execute', { method: 'POST', body: '{"payload":""}', headers }),
    ]);
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

  it.each(WRONG)('answers 401 to %j', async (headers) => {
    for (const answer of await ask(headers)) {
      expectProblem(answer, 401, 'unauthorized');
      expect(answer.headers['www-authenticate']).toBe('Bearer realm="service-faas"');
    }
    expectProblem(await stage.manager.send('/healthz', { headers }), 401, 'unauthorized');
  });

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

  it('leaves probes and documentation open', async () => {
    for (const path of ['/livez', '/readyz', '/docs', '/docs/doc.json', '/docs/doc.yaml']) {
      expect((await stage.manager.send(path)).status).toBe(200);
    }
  });

  it('never shows a secret, in no answer and not in its log', async () => {
    const headers = { Authorization: `Bearer ${KEYS[0]}`, Cookie: 'session=cookie-secret-0123' };
    const answers = [
      ...(await ask(headers)),
      ...(await ask({ Authorization: 'Bearer some-guessed-key-000' })),
      await stage.manager.send('/healthz', { headers }),
      await stage.manager.send('/nowhere', { headers }),
      await stage.manager.send('/functions', { method: 'POST', body: 'x', headers }),
    ];
    const { password } = new URL(stage.databaseUrl);
    const secrets = [...KEYS, 'some-guessed-key-000', 'cookie-secret-0123', SECRETS.HARBOR_PASS, password].filter(
      Boolean,
    );
    const shown = answers.map(({ text, headers: given }) => text + JSON.stringify(given)).join('') + stage.manager.log;
    expect(stage.manager.log).toContain('"url":"/nowhere"');
    for (const secret of secrets) expect(shown).not.toContain(secret);
  });
});

describeOnAnyEngine('a manager with AUTH_DISABLED', (engine) => {
  const stage = Stage.on(engine, { AUTH_DISABLED: 'true', LISTEN_ADDR: '0.0.0.0:0' });

  it('answers everybody on every interface', async () => {
    const headers = { Host: 'evil.example', Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' };
    expect((await stage.manager.send('/functions', { headers })).status).toBe(200);
    if (outside !== undefined) expect(await accepts(outside, stage.manager.port)).toBe(true);
  });
});
