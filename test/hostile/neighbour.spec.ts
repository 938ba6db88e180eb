import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, it, vi } from 'vitest';
import { describeOnAnyEngine, describeOnEachEngine } from '../support/engines.js';
import { type Saying, LARGE, takingOver } from './support/handlers.js';
import { Victim } from './support/victim.js';

const MIB = 1024 * 1024;
/** How long an upload may wait for its function, and so how long each of the attackers' uploads takes at the most. */
const READY_MS = 15_000;
/** The pods of all of them start at once, cold, on the same machine. */
const READY_ON_CLUSTER_MS = 40_000;
const limits = (readyMs: number) => ({
  READY_TIMEOUT_MS: String(readyMs),
  QUEUE_PER_FUNCTION: '64',
  RECONCILE_CONCURRENCY: '4',
});
const SAYINGS: Saying[] = ['switching-protocols', 'interim-answers', 'garbage', 'one-byte-a-second'];

describeOnEachEngine('an honest function beside', (engine) => {
  const readyMs = engine.name === 'kubernetes' ? READY_ON_CLUSTER_MS : READY_MS;
  const victim = Victim.on(engine, limits(readyMs));

  it('workers that answer whoever asks with what is no answer is served as before', async () => {
    // More than there are reconcile steps at once.
    const uploads = [...SAYINGS, ...SAYINGS.slice(0, 1)].map((saying) => victim.upload(takingOver(saying)));
    await victim.expectUploads(readyMs);
    const answers = await Promise.all(uploads);
    // Whether a worker got through to its first good answer is up to it.
    for (const { status, text } of answers) expect([201, 503], text).toContain(status);
    const taken = answers.filter(({ status }) => status === 201).map(({ json }) => (json() as { id: string }).id);
    const calls = await Promise.all(taken.map((id) => victim.call(id, 'x')));
    for (const { status, text } of calls) expect([409, 429, 502, 503, 504], text).toContain(status);
    await victim.expectUnharmed();
  });

  it('a worker that raises with 60 MiB of costly JSON is served as before', async () => {
    const id = await victim.add(LARGE);
    const answers = await Promise.all(Array.from({ length: 4 }, () => victim.call(id, `raise ${60 * MIB}`)));
    for (const { status, text } of answers) {
      expect([429, 500, 502], text.slice(0, 300)).toContain(status);
      expect(text.length).toBeLessThan(256 * 1024);
    }
    await victim.expectUnharmed();
  });
});

describeOnAnyEngine('an honest function beside', (engine) => {
  const victim = Victim.on(engine, limits(READY_MS));

  it('twelve callers who do not read answers of 32 MiB is served as before', async () => {
    const id = await victim.add(LARGE, { concurrency: '12', max_replicas: '1' });
    const body = JSON.stringify({ payload: `answer ${32 * MIB}` });
    const request = `POST /functions/${id}/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const sockets = await Promise.all(Array.from({ length: 12 }, () => silent(victim.port, request)));
    await vi.waitFor(async () => expect((await victim.send('/readyz')).status).toBe(200));
    await victim.expectUploads(READY_MS);
    for (const socket of sockets) socket.destroy();
    await victim.expectUnharmed();
  });

  it('callers who send 35 MiB of costly JSON is served as before', async () => {
    const id = await victim.add(LARGE);
    const body = `{"x":[${'{"9":0},'.repeat((35 * MIB) / 8)}0],"payload":"answer 8"}`;
    const answers = await Promise.all(
      Array.from({ length: 2 }, () => victim.send(`/functions/${id}/execute`, { method: 'POST', body })),
    );
    for (const { status, text } of answers) expect([400, 413, 429], text).toContain(status);
    await victim.expectUnharmed();
  });

  it('ten connections that pipeline 1,500 requests and read nothing is served as before', async () => {
    const request = 'GET /docs/doc.json HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(1_500);
    const sockets = await Promise.all(Array.from({ length: 10 }, () => silent(victim.port, request)));
    await victim.expectUploads(READY_MS);
    for (const socket of sockets) socket.destroy();
    await victim.expectUnharmed();
  });
});

/** A client that sends and never reads. */
async function silent(port: number, bytes: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.pause();
  socket.write(bytes);
  return socket;
}
