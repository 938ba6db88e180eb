import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ended, killProcess, processes } from '../crash/support/processes.js';
import { ManagerProcess } from '../crash/support/manager-process.js';
import type { FunctionDto } from '../client/index.js';
import { describeOnAnyEngine } from '../support/engines.js';
import { SLEEPY } from '../support/handlers.js';
import { type Answer, expectProblem, send, type Sent } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const MAIN = resolve('dist/apps/manager/src/main.js');
const BUILD = {
  root: resolve('.'),
  main: MAIN,
  workerDir: resolve('apps/worker'),
  compiledDir: resolve('.cache/compiled'),
};
/** Every request has a connection of its own, and they are dealt out in turn: so many get to every process. */
const MANY = 8;

describeOnAnyEngine('a manager of two processes', (engine) => {
  const stage = Stage.on(engine);
  let manager: ManagerProcess;
  let added: FunctionDto;

  const ask = (path: string, sent?: Sent): Promise<Answer> => send(`${manager.url}${path}`, sent);
  const call = (id: string, seconds = 0) =>
    ask(`/functions/${id}/execute`, { method: 'POST', body: JSON.stringify({ payload: `sleep ${seconds}` }) });
  const add = async () => (await ask('/functions', { method: 'POST', ...upload(SLEEPY) })).json() as FunctionDto;
  const times = <T>(count: number, act: () => Promise<T>) => Promise.all(Array.from({ length: count }, act));
  const children = () =>
    processes()
      .filter(({ parent, command }) => parent === manager.pid && command.includes(MAIN))
      .map(({ pid }) => pid);
  const metric = async (sample: string) => {
    const line = (await ask('/metrics')).text.split('\n').find((one) => one.startsWith(`${sample} `));
    return line === undefined ? undefined : Number(line.slice(sample.length + 1));
  };
  const okCalls = (id: string) => metric(`faas_calls_total{function="${id}",code="ok"}`);
  const untilBothServe = () =>
    vi.waitFor(async () => expect(await metric('faas_manager_processes')).toBe(2), { timeout: 30_000, interval: 50 });
  const boot = async () => {
    manager = new ManagerProcess('of two processes', BUILD, {
      ...stage.room.env,
      DATABASE_URL: stage.databaseUrl,
      LISTEN_ADDR: '127.0.0.1:0',
      MANAGER_WORKERS: '2',
    });
    await manager.start();
  };
  const begin = async () => {
    await boot();
    await untilBothServe();
  };

  beforeAll(async () => {
    await begin();
    added = await add();
  });
  afterAll(async () => {
    await manager.terminate();
  });

  it('has two that serve, and is ready when each of them is', async () => {
    expect(children()).toHaveLength(2);
    for (const { status } of await times(MANY, () => ask('/readyz'))) expect(status).toBe(200);
    const document = (await ask('/docs/doc.json')).json() as { paths: object };
    expect(Object.keys(document.paths)).toContain('/functions/{id}/execute');
    const { headers } = await ask('/functions', { headers: { 'X-Request-Id': 'mine' } });
    expect(headers['x-request-id']).toBe('mine');
  });

  it('knows on each of them what was added or removed on any, as soon as that was answered', async () => {
    for (let round = 0; round < 4; round += 1) {
      const { id } = await add();
      for (const { status } of await times(MANY, () => call(id))) expect(status).toBe(200);
      for (const listed of await times(MANY, () => ask('/functions'))) expect(listed.text).toContain(id);
      expect((await ask(`/functions/${id}`, { method: 'DELETE' })).status).toBe(204);
      for (const answer of await times(MANY, () => call(id))) expectProblem(answer, 404, 'function_not_found');
      for (const listed of await times(MANY, () => ask('/functions'))) expect(listed.text).not.toContain(id);
    }
  });

  it('adds up in its metrics what each of them has counted, whichever is asked', async () => {
    const before = (await okCalls(added.id)) ?? 0;
    await times(MANY, () => call(added.id));
    // These are counted in the database, every few seconds.
    await vi.waitFor(async () => expect(await metric('faas_functions{phase="running"}')).toBe(1), { timeout: 30_000 });
    for (const text of await times(4, async () => (await ask('/metrics')).text)) {
      expect(text).toContain(`faas_calls_total{function="${added.id}",code="ok"} ${before + MANY}\n`);
      expect(text).toContain(`faas_call_duration_seconds_count{function="${added.id}"} ${before + MANY}\n`);
      expect(text).toContain('faas_functions{phase="running"} 1\n');
      expect(text.match(/^# TYPE faas_call_duration_seconds /gm)).toHaveLength(1);
    }
  });

  it('loses with one of them that is killed only its calls, puts another in its place, and forgets no count', async () => {
    const counted = await okCalls(added.id);
    const [victim, survivor] = children();
    const calls = times(MANY, () =>
      call(added.id, 1).then(
        ({ status }) => status,
        () => 'lost',
      ),
    );
    await vi.waitFor(async () => expect(await metric(`faas_calls_in_flight{function="${added.id}"}`)).toBe(MANY));
    killProcess(victim!);
    const outcomes = await calls;
    expect(new Set(outcomes)).toEqual(new Set([200, 'lost']));
    const answered = outcomes.filter((outcome) => outcome === 200).length;
    await untilBothServe();
    expect(children()).toHaveLength(2);
    expect(children()).toContain(survivor);
    expect(await okCalls(added.id)).toBe(counted! + answered);
    for (const { status } of await times(MANY, () => call(added.id))) expect(status).toBe(200);
  });

  describe('that is told to leave', () => {
    it('lets the calls of each of them finish, and leaves none of them behind', async () => {
      const left = children();
      const calls = times(MANY, () => call(added.id, 1));
      await vi.waitFor(async () => expect(await metric(`faas_calls_in_flight{function="${added.id}"}`)).toBe(MANY));
      const status = manager.terminate();
      for (const answer of await calls) expect(answer.text).toBe('{"result":"slept"}');
      expect(await status).toBe(0);
      await Promise.all(left.map(ended));
    });

    it('does so as well while one of them is still starting', async () => {
      await boot();
      const left = children();
      expect(await manager.terminate()).toBe(0);
      await Promise.all(left.map(ended));
    });

    it('leaves none of them behind either when its primary is killed, and calls under way finish', async () => {
      await begin();
      const left = children();
      const calls = times(MANY, () => call(added.id, 1));
      await vi.waitFor(async () => expect(await metric(`faas_calls_in_flight{function="${added.id}"}`)).toBe(MANY));
      await manager.kill();
      for (const answer of await calls) expect(answer.text).toBe('{"result":"slept"}');
      await Promise.all(left.map(ended));
    });
  });

  it('that can’t have its address says so once, and ends', async () => {
    const taken = new ManagerProcess('too late', BUILD, {
      ...stage.room.env,
      DATABASE_URL: stage.databaseUrl,
      LISTEN_ADDR: `127.0.0.1:${stage.manager.port}`,
      MANAGER_WORKERS: '2',
    });
    await expect(taken.start()).rejects.toThrow(/status 1/);
    await vi.waitFor(() => expect(taken.tail(20).match(/The address is taken/g)).toHaveLength(1));
  });
});
