import { once } from 'node:events';
import { request } from 'node:http';
import { afterEach, expect, it, vi } from 'vitest';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO, OBEDIENT } from '../support/handlers.js';
import { converse, expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

const MIB = 1024 * 1024;

describeOnAnyEngine('a function with more calls than it can take', (engine) => {
  const stage = Stage.on(engine, { QUEUE_PER_FUNCTION: '3' });

  it('tells those it refuses when it will have served those that wait', async () => {
    const { id } = await stage.manager.add(OBEDIENT, { concurrency: 1, max_replicas: 1 });
    await stage.manager.call(id, 'sleep 1.5');
    const accepted = Array.from({ length: 4 }, () => stage.manager.call(id, 'sleep 1.5'));
    await vi.waitFor(async () => {
      const { text } = await stage.manager.send('/metrics');
      expect(text).toContain(`faas_calls_waiting{function="${id}"} 3`);
    });
    const refused = await stage.manager.call(id, 'sleep 0');
    expectProblem(refused, 429, 'function_overloaded');
    // Three that take a second and a half, one after the other.
    expect(Number(refused.headers['retry-after'])).toBe(5);
    expect((await Promise.all(accepted)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    await stage.manager.remove(id);
  });

  it('refuses a call before its body has come, and the connection serves the next one', async () => {
    const { id } = await stage.manager.add(OBEDIENT, { concurrency: 1, max_replicas: 1 });
    const accepted = Array.from({ length: 4 }, () => stage.manager.call(id, 'sleep 2'));
    await vi.waitFor(async () => {
      const { text } = await stage.manager.send('/metrics');
      expect(text).toContain(`faas_calls_waiting{function="${id}"} 3`);
    });
    const head = `POST /functions/${id}/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n`;
    const closing = converse(stage.manager.port, head.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
    const { socket, received } = converse(stage.manager.port, head);
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toMatch(/^HTTP\/1\.1 429 /);
    socket.write(`${' '.repeat(100_000)}GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    expect(await received).toMatch(/"function_overloaded"[^]*HTTP\/1\.1 200 OK/);
    expect(await closing.received).toMatch(/^HTTP\/1\.1 429 [^]*"function_overloaded"[^]*\}$/);
    expect((await Promise.all(accepted)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    const { text } = await stage.manager.send('/metrics');
    expect(text).toContain(`faas_calls_total{function="${id}",code="function_overloaded"} 2`);
    await stage.manager.remove(id);
  });

  it('tells them to come back at once when its calls are short', async () => {
    const { id } = await stage.manager.add(OBEDIENT, { concurrency: 1, max_replicas: 1 });
    for (let call = 0; call < 40; call += 1) await stage.manager.call(id, 'x');
    const calls = Array.from({ length: 12 }, () => stage.manager.call(id, 'sleep 0.2'));
    const refused = (await Promise.all(calls)).filter(({ status }) => status !== 200);
    expect(refused.length).toBeGreaterThan(0);
    for (const answer of refused) {
      expectProblem(answer, 429, 'function_overloaded');
      expect(answer.headers['retry-after']).toBe('1');
    }
    await stage.manager.remove(id);
  });
});

describeOnAnyEngine('a manager that holds as much as it may', (engine) => {
  const LIMIT = 4 * MIB;
  const stage = Stage.on(engine, {
    MAX_PAYLOAD_BYTES: String(MIB / 2),
    MAX_UPLOAD_BYTES: String(2 * MIB),
    MAX_HELD_BYTES: String(LIMIT),
  });
  const open: (() => void)[] = [];
  afterEach(() => {
    for (const close of open.splice(0)) close();
  });
  const held = async () => {
    const { text } = await stage.manager.send('/metrics');
    return Number(/^faas_held_bytes (\d+)$/m.exec(text)?.[1]);
  };

  /** Sends nearly all of a body and no end, so that what was sent stays held. */
  async function hoard(id: string, bytes: number): Promise<void> {
    const before = await held();
    const half = request({
      port: stage.manager.port,
      method: 'POST',
      path: `/functions/${id}/execute`,
      headers: { 'Content-Length': bytes + 1 },
    });
    half.on('error', () => undefined);
    half.write(Buffer.alloc(bytes, ' '));
    open.push(() => half.destroy());
    await vi.waitFor(async () => expect(await held()).toBeGreaterThanOrEqual(before + bytes));
  }

  it('refuses what it has no room for, and says so, and takes calls again as soon as it has', async () => {
    const ids: string[] = [];
    for (let hoarder = 0; hoarder < 3; hoarder += 1) ids.push((await stage.manager.add(ECHO)).id);
    const id = ids[0]!;
    for (const each of ids) await hoard(each, 1_250_000);
    const large = await stage.manager.call(id, 'x'.repeat(MIB / 2 - 1));
    const problem = expectProblem(large, 429, 'manager_overloaded');
    expect(problem.detail).toContain(`${LIMIT} bytes`);
    expect(problem['limit_bytes']).toBe(LIMIT);
    const refused = await stage.manager.send('/functions', { method: 'POST', ...upload('#'.repeat(MIB)) });
    expectProblem(refused, 429, 'manager_overloaded');
    expect((await stage.manager.call(id, 'small')).text).toBe('{"result":"small"}');
    for (const close of open.splice(0)) close();
    await vi.waitFor(async () => expect(await held()).toBe(0));
    expect((await stage.manager.call(id, 'x'.repeat(MIB / 2 - 1))).status).toBe(200);
    for (const each of ids) await stage.manager.remove(each);
  });

  it('leaves half of it to the others, whatever is sent to one function', async () => {
    const { id } = await stage.manager.add(ECHO);
    const other = await stage.manager.add(ECHO);
    await hoard(id, 1_250_000);
    const sent = { method: 'POST', body: ' '.repeat(MIB) };
    const refused = await stage.manager.send(`/functions/${id}/execute`, sent);
    expect(expectProblem(refused, 429, 'function_overloaded')['limit_bytes']).toBe(LIMIT / 2);
    expect((await stage.manager.call(id, 'small')).text).toBe('{"result":"small"}');
    expect((await stage.manager.call(other.id, 'x'.repeat(MIB / 2 - 1))).status).toBe(200);
    for (const each of [id, other.id]) await stage.manager.remove(each);
  });

  it('counts calls that wait, however small they are', async () => {
    const { id } = await stage.manager.add(OBEDIENT, { concurrency: 1, max_replicas: 1 });
    const calls = Array.from({ length: 300 }, () => stage.manager.call(id, 'sleep 0.01'));
    const byStatus = Map.groupBy(await Promise.all(calls), ({ status }) => status);
    expect(new Set(byStatus.keys())).toEqual(new Set([200, 429]));
    // So many requests fit into the limit at once; all those beyond came too early.
    expect(byStatus.get(200)!.length).toBeGreaterThanOrEqual(200);
    for (const answer of byStatus.get(429)!) expect(answer.json()).toMatchObject({ code: 'manager_overloaded' });
    expect(await held()).toBe(0);
    await stage.manager.remove(id);
  });

  it('holds nothing of a call that was cut short behind another one on the same connection', async () => {
    const { id } = await stage.manager.add(OBEDIENT);
    const head = (bytes: number) =>
      `POST /functions/${id}/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes}\r\n\r\n`;
    const slow = '{"payload":"sleep 2"}';
    const { socket } = converse(stage.manager.port, head(slow.length) + slow + head(100_000) + ' '.repeat(50_000));
    await vi.waitFor(async () => expect(await held()).toBeGreaterThan(50_000));
    socket.destroy();
    await vi.waitFor(async () => expect(await held()).toBe(0), { timeout: 5_000 });
    await stage.manager.remove(id);
  });

  it('holds nothing of a call whose caller left in the middle of it', async () => {
    const { id } = await stage.manager.add(ECHO);
    await hoard(id, MIB);
    for (const close of open.splice(0)) close();
    await vi.waitFor(async () => expect(await held()).toBe(0));
    await stage.manager.remove(id);
  });
});
