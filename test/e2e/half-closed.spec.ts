import { expect, it, vi } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { SLEEPY } from '../support/handlers.js';
import { converse } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const INTERIM = /HTTP\/1\.1 102 Processing\r\n\r\n/g;

describeOnAnyEngine('a client that closes its sending side once its request is sent', (engine) => {
  const stage = Stage.on(engine, { WORKER_CONCURRENCY: '1', QUEUE_PER_FUNCTION: '0' });

  const request = (path: string, body: string | Buffer, head = 'HTTP/1.1\r\nHost: localhost') => {
    const start = `POST ${path} ${head}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
    return Buffer.concat([Buffer.from(start), Buffer.from(body)]);
  };
  const call = (id: string, payload: string, head?: string) =>
    request(`/functions/${id}/execute`, JSON.stringify({ payload }), head);
  /** All that a client gets who ends its side as soon as it has sent `bytes`. */
  const ask = async (bytes: Buffer) => {
    const { socket, received } = converse(stage.manager.port, bytes);
    socket.end();
    return (await received).replace(INTERIM, '');
  };

  it('gets the answer of a call, also of one that takes its time', async () => {
    const { id } = await stage.manager.add(SLEEPY);
    for (const seconds of [0, 0.05, 1.3]) {
      expect(await ask(call(id, `sleep ${seconds}`))).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*\{"result":"slept"\}$/);
    }
    await stage.manager.remove(id);
  });

  it('gets nothing but the answer in HTTP/1.0, which knows no interim ones', async () => {
    const { id } = await stage.manager.add(SLEEPY);
    const { socket, received } = converse(stage.manager.port, call(id, 'sleep 0.3', 'HTTP/1.0'));
    socket.end();
    expect(await received).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*\{"result":"slept"\}$/);
    await stage.manager.remove(id);
  });

  it('gets the answers of the framework’s routes: a list, an upload, a removal', async () => {
    expect(await ask(Buffer.from('GET /functions HTTP/1.1\r\nHost: localhost\r\n\r\n'))).toMatch(/\r\n\r\n\[\]$/);
    const { headers, body } = upload(SLEEPY);
    const head = `HTTP/1.1\r\nHost: localhost\r\nContent-Type: ${headers['Content-Type']}`;
    const added = await ask(request('/functions', body, head));
    expect(added).toMatch(/^HTTP\/1\.1 201 Created\r\n/);
    const { id } = JSON.parse(added.slice(added.indexOf('\r\n\r\n'))) as { id: string };
    const removed = await ask(Buffer.from(`DELETE /functions/${id} HTTP/1.1\r\nHost: localhost\r\n\r\n`));
    expect(removed).toMatch(/^HTTP\/1\.1 204 No Content\r\n/);
  });

  it('gets a 400 when its request isn’t whole', async () => {
    const { id } = await stage.manager.add(SLEEPY);
    const whole = call(id, 'sleep 0');
    expect(await ask(whole.subarray(0, whole.length - 3))).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    await stage.manager.remove(id);
  });

  it('and then closes the other side too cancels its call', async () => {
    const { id } = await stage.manager.add(SLEEPY);
    const { socket, received } = converse(stage.manager.port, call(id, 'sleep 25'));
    await vi.waitFor(async () => expect((await stage.manager.call(id, 'sleep 0')).status).toBe(429));
    socket.destroy();
    await received;
    await vi.waitFor(async () => expect((await stage.manager.call(id, 'sleep 0')).status).toBe(200));
    await stage.manager.remove(id);
  });
});
