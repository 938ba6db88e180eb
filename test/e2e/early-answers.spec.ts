import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { beforeAll, expect, it } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { converse } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const MIB = 1024 * 1024;
const KEY = 'a-key-of-this-suite-0123456789';
const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n';

describeOnAnyEngine('a request that is refused before all of it has come', (engine) => {
  const stage = Stage.on(engine, {
    API_KEYS: KEY,
    MAX_PAYLOAD_BYTES: String(MIB),
    MAX_UPLOAD_BYTES: String(MIB),
  });
  let path: string;
  beforeAll(async () => {
    path = `/functions/${(await stage.manager.add(ECHO)).id}/execute`;
  });
  /** What a client gets that sends all before it reads anything, as most simple ones do. */
  const sentThenReceived = async (bytes: Buffer): Promise<string> => {
    const socket = connect({ port: stage.manager.port, host: '127.0.0.1' }).pause();
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject).write(bytes, () => resolve());
    });
    return text(socket);
  };
  const head = (path: string, bytes: number, more = '', key = KEY) =>
    `POST ${path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: ${key}\r\nContent-Length: ${bytes}\r\n${more}\r\n`;

  it('gets its answer though the connection is closed with it, also of a client that reads nothing before', async () => {
    const large = Buffer.alloc(20 * MIB, 'x');
    const form = upload(large);
    const type = `Content-Type: ${form.headers['Content-Type']}\r\n`;
    for (const { to, body, more, key, expected } of [
      { to: path, body: large, more: '', key: 'another', expected: /^HTTP\/1\.1 401 [^]*"unauthorized"[^]*\}$/ },
      { to: path, body: large, more: '', key: KEY, expected: /^HTTP\/1\.1 413 [^]*"payload_too_large"[^]*\}$/ },
      { to: '/functions', body: large, more: '', key: 'another', expected: /^HTTP\/1\.1 401 [^]*\}$/ },
      { to: '/functions', body: large, more: '', key: KEY, expected: /^HTTP\/1\.1 400 [^]*"invalid_upload"[^]*\}$/ },
      { to: '/functions', body: form.body, more: type, key: KEY, expected: /^HTTP\/1\.1 413 [^]*\}$/ },
    ]) {
      const start = head(to, body.length, `${more}Connection: close\r\n`, key);
      expect(await sentThenReceived(Buffer.concat([Buffer.from(start), body]))).toMatch(expected);
    }
  });

  it('gets it at once, and its connection is closed in the end though the rest never comes', async () => {
    const start = performance.now();
    const { socket, received } = converse(stage.manager.port, head(path, 20 * MIB, 'Connection: close\r\n'));
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(performance.now() - start).toBeLessThan(5_000);
    expect(first.toString()).toMatch(/^HTTP\/1\.1 413 [^]*\r\nConnection: close\r\n/);
    expect(await received).toMatch(/"payload_too_large"[^]*\}$/);
    expect(performance.now() - start).toBeLessThan(15_000);
  });

  it('isn’t asked for the rest if it waits to be asked, and no other request may follow it', async () => {
    const expects = 'Expect: 100-continue\r\n';
    for (const [bytes, key, status] of [
      [10, 'another', 401],
      [20 * MIB, KEY, 413],
    ] as const) {
      const { socket, received } = converse(stage.manager.port, head(path, bytes, expects, key));
      socket.on('data', () => socket.end());
      expect(await received).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [^]*\\r\\nConnection: close\\r\\n[^]*\\}$`));
    }
  });

  it('is asked for the rest if it waits for that and nothing speaks against it, and another may follow', async () => {
    const { id } = await stage.manager.add(ECHO);
    const body = '{"payload":"x"}';
    const { socket, received } = converse(
      stage.manager.port,
      head(`/functions/${id}/execute`, body.length, 'Expect: 100-continue\r\n'),
    );
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toBe(CONTINUE);
    socket.write(body);
    const [second] = (await once(socket, 'data')) as [Buffer];
    expect(second.toString()).toMatch(/^HTTP\/1\.1 200 [^]*\{"result":"x"\}$/);
    const form = upload(ECHO);
    const type = `Content-Type: ${form.headers['Content-Type']}\r\n`;
    socket.write(head('/functions', form.body.length, `${type}Expect: 100-continue\r\nConnection: close\r\n`));
    const [third] = (await once(socket, 'data')) as [Buffer];
    expect(third.toString()).toBe(CONTINUE);
    socket.write(form.body);
    const all = await received;
    expect(all).toMatch(/HTTP\/1\.1 201 [^]*\}$/);
    const added = JSON.parse(all.slice(all.lastIndexOf('\r\n\r\n'))) as { id: string };
    for (const one of [id, added.id]) {
      const headers = { 'X-Api-Key': KEY };
      const { status } = await stage.manager.send(`/functions/${one}`, { method: 'DELETE', headers });
      expect(status).toBe(204);
    }
  });
});
