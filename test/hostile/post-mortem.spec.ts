import { request } from 'node:http';
import pg from 'pg';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { describeOnProcesses } from '../support/engines.js';
import { ECHO } from '../support/handlers.js';
import { Stage } from '../support/stage.js';
import { HostilePeer } from './support/hostile-peer.js';

const CALLS = 8;
const CALL_BYTES = 4 * 2 ** 20;

describeOnProcesses('calls whose worker ends them, and then never says why', (engine) => {
  const stage = Stage.on(engine);
  let peer: HostilePeer;
  let id: string;

  beforeAll(async () => {
    peer = await HostilePeer.listen('switches protocols');
    peer.behaviourInCalls = 'hangs up';
    ({ id } = await stage.manager.add(ECHO, { concurrency: CALLS }));
    const endpoints = [{ replica: 'hostile', guard: 'worker', address: peer.address }];
    // Under a lease that nobody else has, so that no step says where its worker is.
    await change(
      `UPDATE functions SET endpoints = $2::jsonb, lease_token = gen_random_uuid(), lease_until = 'infinity'
       WHERE id = $1`,
      [id, JSON.stringify(endpoints)],
    );
    await vi.waitFor(async () => expect((await stage.manager.call(id)).status).toBe(502), 20_000);
  });
  afterAll(async () => {
    await change('UPDATE functions SET lease_token = NULL, lease_until = NULL WHERE id = $1', [id]);
    await peer[Symbol.asyncDispose]();
  });

  const change = async (statement: string, values: readonly string[]) => {
    const client = new pg.Client({ connectionString: stage.databaseUrl });
    await client.connect();
    await client.query(statement, [...values]);
    await client.end();
  };

  const measured = async (name: string) => {
    const { text } = await stage.manager.send('/metrics');
    return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1] ?? 0);
  };
  const nothingIsHeld = async () => {
    expect(await measured('faas_held_bytes')).toBe(0);
    expect(await measured('faas_calls_in_flight')).toBe(0);
  };
  const body = JSON.stringify({ payload: 'x'.repeat(CALL_BYTES) });

  it('end, and give back what they held', async () => {
    const calls = Array.from({ length: CALLS }, () =>
      stage.manager.send(`/functions/${id}/execute`, { method: 'POST', body }),
    );
    await vi.waitFor(async () => expect(await measured('faas_held_bytes')).toBeGreaterThan(CALLS * CALL_BYTES), 10_000);
    for (const { status } of await Promise.all(calls)) expect(status).toBe(502);
    await nothingIsHeld();
  });

  it('give it back at once when their callers leave', async () => {
    peer.behaviour = 'says nothing';
    const callers = Array.from({ length: CALLS }, () => {
      const { port } = stage.manager;
      const caller = request({ port, path: `/functions/${id}/execute`, method: 'POST', agent: false });
      caller.on('error', () => undefined).end(body);
      return caller;
    });
    const { asked } = peer;
    // All are past their call, and ask why.
    await vi.waitFor(() => expect(peer.asked - asked).toBeGreaterThanOrEqual(2 * CALLS), 10_000);
    expect(await measured('faas_held_bytes')).toBeGreaterThan(CALLS * CALL_BYTES);
    for (const caller of callers) caller.destroy();
    // Half of what a post mortem takes that nobody answers.
    await vi.waitFor(nothingIsHeld, 3_000);
    await vi.waitFor(() => expect(peer.connected).toBe(0));
  });
});
