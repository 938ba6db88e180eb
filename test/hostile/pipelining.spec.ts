import { connect, type Socket } from 'node:net';
import { afterEach, expect, it, vi } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { converse } from '../support/http.js';
import { Victim } from './support/victim.js';

const MANY = 1_500;
const DOCUMENT = 'GET /docs/doc.json HTTP/1.1\r\nHost: localhost\r\n\r\n';
const MOST_HELD_MIB = 64;

describeOnProcesses('a client that pipelines requests and reads no answer', (engine) => {
  // What a manager gets in a container of 512 MiB.
  const victim = Victim.on(engine, { NODE_OPTIONS: '--max-old-space-size=256' });
  const clients: Socket[] = [];
  afterEach(() => {
    for (const client of clients.splice(0)) client.destroy();
  });
  const attack = async (count: number) => {
    const begun = Array.from({ length: count }, async () => {
      const client = connect({ port: victim.port, host: '127.0.0.1' }).pause();
      client.on('error', () => undefined);
      clients.push(client);
      await new Promise((resolve) => client.on('close', resolve).write(DOCUMENT.repeat(MANY), resolve));
    });
    await Promise.all(begun);
  };

  it('makes the manager hold little, and others are served meanwhile', async () => {
    await attack(10);
    await victim.slowest(100);
    await victim.expectSmall(MOST_HELD_MIB);
    await attack(16);
    await victim.slowest(100);
    expect(await victim.peakMiB()).toBeLessThan(512);
    // Who reads nothing for half a minute is let go.
    const left = async () => Number((await victim.send('/metrics')).text.match(/^faas_held_bytes (\d+)$/m)?.[1]);
    await vi.waitFor(async () => expect(await left()).toBe(0), { timeout: 45_000, interval: 500 });
    for (const client of clients) client.resume();
    await vi.waitFor(() => expect(clients.every(({ closed }) => closed)).toBe(true));
    await victim.expectUnharmed();
  }, 120_000);

  it('gets all of them when it reads after all', async () => {
    const last = 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
    const { received } = converse(victim.port, DOCUMENT.repeat(200) + last);
    const answers = (await received).split('HTTP/1.1 200 OK\r\n');
    expect(answers).toHaveLength(202);
    expect(answers.at(-1)).toContain('Connection: close');
  });
});
