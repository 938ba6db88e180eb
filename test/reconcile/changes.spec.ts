import { Notifications } from '#libs/database/notifications.js';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FunctionChanges } from '../../apps/manager/src/functions/function-changes.js';
import { startTestPostgres, type TestPostgres } from '../support/postgres.js';
import { silent } from './installation.js';

let postgres: TestPostgres;
let admin: pg.Client;

const connect = async () => {
  admin = new pg.Client({ connectionString: postgres.url });
  admin.on('error', () => undefined);
  await admin.connect();
};
const sessions = async () => {
  const { rows } = await admin.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE application_name = 'service-faas-listen'`,
  );
  return rows.map(({ pid }) => pid);
};
const say = (channel: string, payload: string) => admin.query('SELECT pg_notify($1, $2)', [channel, payload]);

beforeAll(async () => {
  postgres = await startTestPostgres();
  await connect();
});
afterAll(async () => {
  await admin.end();
  await postgres.stop();
});

describe('Notifications', () => {
  let notifications: Notifications;
  let heard: (string | undefined)[];

  beforeEach(() => {
    heard = [];
    notifications = new Notifications(postgres.url, silent);
    notifications.on('test_channel', (payload) => heard.push(payload));
  });
  afterEach(() => notifications.close());

  it('first tells everybody to look, then every notification in its order and of its channel only', async () => {
    notifications.start();
    await expect.poll(() => heard).toEqual([undefined]);
    await say('other_channel', 'other');
    for (const payload of ['one', 'two', 'three']) await say('test_channel', payload);
    await expect.poll(() => heard).toEqual([undefined, 'one', 'two', 'three']);
  });

  it('comes back after its session is ended, and tells everybody to look again', async () => {
    notifications.start();
    await expect.poll(() => heard).toEqual([undefined]);
    const [pid] = await sessions();
    await admin.query('SELECT pg_terminate_backend($1)', [pid]);
    await expect.poll(() => heard, { timeout: 15_000 }).toEqual([undefined, undefined]);
    await say('test_channel', 'after');
    await expect.poll(() => heard).toEqual([undefined, undefined, 'after']);
    expect(await sessions()).toHaveLength(1);
  });

  it('comes back after the server was killed and started again', async () => {
    notifications.start();
    await expect.poll(() => heard).toEqual([undefined]);
    await postgres.kill();
    await delay(100);
    await postgres.restart();
    await connect();
    await expect.poll(() => heard, { timeout: 10_000 }).toEqual([undefined, undefined]);
    await say('test_channel', 'after');
    await expect.poll(() => heard).toContain('after');
  });

  it('starts before its server does', async () => {
    const lost = new Notifications('postgresql://nobody:nothing@127.0.0.1:1/none', silent);
    lost.start();
    await delay(20);
    await lost.close();
  });

  it.each([0, 1, 5, 20, 100])('leaves no session behind when closed %d ms after its start', async (ms) => {
    notifications.start();
    if (ms > 0) await delay(ms);
    await notifications.close();
    await expect.poll(sessions, { timeout: 2_000 }).toEqual([]);
    await delay(30);
    expect(await sessions()).toEqual([]);
  });
});

describe('FunctionChanges', () => {
  const ID = 'aaaaaaaaaaaaaaaa';
  let notifications: Notifications;
  let changes: FunctionChanges;

  beforeEach(() => {
    notifications = new Notifications(postgres.url, silent);
    changes = new FunctionChanges(notifications);
  });
  afterEach(() => notifications.close());

  /** Starts listening and waits until it does. */
  const listen = async () => {
    const first = new Promise<void>((resolve) => {
      const unsubscribe = changes.subscribe(() => {
        unsubscribe();
        resolve();
      });
    });
    notifications.start();
    await first;
  };

  it('answers at once what is there already', async () => {
    expect(await changes.until(ID, 1_000, () => Promise.resolve('there'))).toBe('there');
  });

  it('looks again as soon as the function changes, and not when another one does', async () => {
    await listen();
    let looks = 0;
    let found: string | undefined;
    const began = performance.now();
    const waiting = changes.until(ID, 10_000, () => {
      looks += 1;
      return Promise.resolve(found);
    });
    await say('faas_changed', 'bbbbbbbbbbbbbbbb');
    await delay(50);
    expect(looks).toBe(1);
    found = 'ready';
    await say('faas_changed', ID);
    expect(await waiting).toBe('ready');
    expect(looks).toBe(2);
    expect(performance.now() - began).toBeLessThan(900);
  });

  it('misses no change that comes while it looks', async () => {
    await listen();
    let seenBefore = false;
    const began = performance.now();
    const seen = await changes.until(ID, 10_000, async () => {
      if (seenBefore) return 'changed';
      seenBefore = true;
      await say('faas_changed', ID);
      await delay(100);
      return undefined;
    });
    expect(seen).toBe('changed');
    expect(performance.now() - began).toBeLessThan(900);
  });

  it('finds by its poll what no notification told', async () => {
    let looks = 0;
    const found = await changes.until(ID, 10_000, () => Promise.resolve((looks += 1) === 2 ? 'found' : undefined));
    expect(found).toBe('found');
  });

  it('gives up when its time is over, with a last look', async () => {
    let looks = 0;
    const began = performance.now();
    const never = () => {
      looks += 1;
      return Promise.resolve(undefined);
    };
    expect(await changes.until(ID, 150, never)).toBeUndefined();
    expect(looks).toBeGreaterThanOrEqual(2);
    expect(performance.now() - began).toBeLessThan(900);
  });

  it('stops listening when a look fails', async () => {
    await expect(changes.until(ID, 1_000, () => Promise.reject(new Error('database away')))).rejects.toThrow('away');
    expect(changes).toHaveProperty('subscribers.size', 0);
  });
});
