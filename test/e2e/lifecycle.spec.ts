import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { type FunctionDto, healthz, livez, readyz } from '../client/index.js';
import { describeOnEachEngine } from '../support/engines.js';
import { WITNESS } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';

/** A client on a thread of its own: it sends while the thread of the test, which is the manager's too, is held up. */
const CLIENT = `
  const { parentPort, workerData: { port, request, sent, callers } } = require('node:worker_threads');
  const answers = Array.from({ length: callers }, () => new Promise((resolve) => {
    let heard = '';
    const socket = require('node:net').connect(port, '127.0.0.1', () => {
      socket.write(request, () => {
        if (Atomics.add(sent, 0, 1) + 1 === callers) Atomics.notify(sent, 1, Atomics.add(sent, 1, 1) + 1);
      });
    });
    socket.on('data', (data) => (heard += data));
    socket.on('error', (error) => (heard += error.code));
    socket.on('close', () => resolve(heard));
  }));
  void Promise.all(answers).then((all) => parentPort.postMessage(all));
`;

describeOnEachEngine('a manager', (engine) => {
  const stage = Stage.on(engine);
  let added: FunctionDto;
  let witness: string;
  beforeAll(async () => {
    added = await stage.manager.add(WITNESS);
    witness = (await stage.manager.call(added.id, 'who')).text;
  });

  describe('while it serves', () => {
    it('says that it lives, that it is ready, and in detail why', async () => {
      const { client } = stage.manager;
      const up = {
        database: { status: 'up' },
        engine: { status: 'up', engine: engine.name },
        serving: { status: 'up' },
      };
      expect((await livez({ client })).data).toEqual({ status: 'ok', info: {}, error: {}, details: {} });
      expect((await readyz({ client })).data).toMatchObject({ status: 'ok', info: up, error: {}, details: up });
      expect((await healthz({ client })).data).toMatchObject({ status: 'ok', info: up, error: {}, details: up });
    });
  });

  describe('that shares its installation with another', () => {
    it('runs what the other added, and knows what the other removed', async () => {
      const other = await stage.start();
      const { id } = await other.add(WITNESS);
      const [here, there] = await Promise.all([stage.manager.call(id, 'who'), other.call(id, 'who')]);
      expect(here.text).toBe(there.text);
      expect((await stage.manager.send('/functions')).json()).toHaveLength(2);
      expect((await stage.manager.remove(id)).status).toBe(204);
      await vi.waitFor(async () => expectProblem(await other.call(id), 404, 'function_not_found'));
      await other.stop();
      expect((await stage.manager.call(added.id, 'who')).text).toBe(witness);
    });
  });

  describe('that stops', () => {
    it('turns unready first, serves on for its delay, lets calls in flight finish, and then is gone', async () => {
      const leaving = await stage.start({ SHUTDOWN_DELAY_MS: '2000' });
      await leaving.call(added.id, 'who');
      const inFlight = leaving.call(added.id, '2.6');
      await leaving.call(added.id, 'who');
      const began = performance.now();
      const stopped = leaving.stop().then(() => performance.now() - began);

      const ready = await leaving.send('/readyz');
      expect(ready.status).toBe(503);
      expect(ready.json()).toMatchObject({ error: { serving: { status: 'down', reason: 'shutting down' } } });
      expect((await leaving.send('/readyz?exclude=database&exclude=engine')).status).toBe(503);
      expect((await leaving.send('/livez')).status).toBe(200);
      expect((await leaving.call(added.id, 'who')).text).toBe(witness);

      expect((await inFlight).text).toBe('{"result":"slept"}');
      expect(await stopped).toBeGreaterThan(1_990);
      await expect(leaving.send('/livez')).rejects.toThrow(/ECONNREFUSED/);
    });

    it('answers requests that reached it before it closed, however late it reads them', async () => {
      const leaving = await stage.start();
      const sent = new Int32Array(new SharedArrayBuffer(8));
      const body = '{"payload":"who"}';
      const request = `POST /functions/${added.id}/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      const workerData = { port: leaving.port, request, sent, callers: 100 };
      const heard = once(new Worker(CLIENT, { eval: true, workerData }), 'message');

      const stopped = leaving.stop();
      expect(Atomics.wait(sent, 1, 0, 10_000)).toBe('ok');
      const [answers] = (await heard) as [string[]];
      // Answers of any kind: a hundred at once are more than the function takes.
      const cutOff = answers.filter((answer) => !/^HTTP\/1\.1 (200 .*|429 .*)$/s.test(answer));
      expect(cutOff).toEqual([]);
      expect(answers.some((answer) => answer.endsWith(witness))).toBe(true);
      await stopped;
    });

    it('cuts calls in flight that outlast the time it has', async () => {
      const leaving = await stage.start({ DRAIN_TIMEOUT_MS: '300' });
      await leaving.call(added.id, 'who');
      const inFlight = leaving.call(added.id, '20').catch((error: Error) => error.message);
      await leaving.call(added.id, 'who');
      const began = performance.now();
      await leaving.stop();
      expect(performance.now() - began).toBeLessThan(12_000);
      expect(await inFlight).toMatch(/socket hang up|ECONNRESET|aborted/);
    });

    it('leaves its workers running, and the next one goes on with the same', async () => {
      const before = (await stage.manager.send(`/functions/${added.id}`)).json() as FunctionDto;
      const workers = await stage.room.workers();
      await stage.manager.stop();
      expect(await stage.room.workers()).toEqual(workers);

      const next = await stage.start();
      expect((await next.call(added.id, 'who')).text).toBe(witness);
      await settled(next);
      expect((await next.send(`/functions/${added.id}`)).json()).toMatchObject({ ...before, status: 'running' });
      expect((await next.call(added.id, 'who')).text).toBe(witness);
      expect(await stage.room.workers()).toEqual(workers);
    });
  });

  /** The manager looks at every function when it starts; an upload that comes after is looked at after. */
  async function settled(manager: TestManager): Promise<void> {
    const { id } = await manager.add(WITNESS);
    expect((await manager.remove(id)).status).toBe(204);
  }
});
