import { expect, it, vi } from 'vitest';
import { CutRelay } from '../support/cut-relay.js';
import { describeOnAnyEngine } from '../support/engines.js';
import { ECHO, SLEEPY } from '../support/handlers.js';
import { expectProblem } from '../support/http.js';
import { Stage } from '../support/stage.js';
import { upload } from '../support/uploads.js';

describeOnAnyEngine('a database that goes away and comes back', (engine) => {
  const stage = Stage.withOwnServer(engine);

  it('costs everything but calls to functions that are known, and needs no restart', async () => {
    const { manager, postgres } = stage;
    const [warm, cold] = [(await manager.add(ECHO)).id, (await manager.add(ECHO)).id];
    expect((await manager.call(warm, 'before')).status).toBe(200);
    const before = (await manager.send('/functions')).json();

    await postgres.kill();
    for (let time = 0; time < 20; time += 1) {
      expect((await manager.call(warm, 'during')).text).toBe('{"result":"during"}');
    }
    const refused = await Promise.all([
      manager.send('/functions'),
      manager.send(`/functions/${warm}`),
      manager.send(`/functions/${warm}/code`),
      manager.remove(warm),
      manager.call(cold),
      manager.send('/functions', { method: 'POST', ...upload(ECHO) }),
    ]);
    for (const answer of refused) expectProblem(answer, 503, 'database_unavailable');
    const ready = await manager.send('/readyz');
    expect(ready.status).toBe(503);
    expect(ready.json()).toMatchObject({ status: 'error', error: { database: { status: 'down' } } });
    const asLoadBalancersAsk = await manager.send('/readyz?exclude=database&exclude=engine');
    expect(asLoadBalancersAsk.status).toBe(200);
    expect(asLoadBalancersAsk.json()).toMatchObject({ details: { serving: { status: 'up' } } });
    expect((await manager.send('/healthz')).json()).toMatchObject({ info: { engine: { status: 'up' } } });
    expect((await manager.send('/livez')).status).toBe(200);
    expect((await manager.call(warm, 'still')).status).toBe(200);

    await postgres.restart();
    await vi.waitFor(async () => expect((await manager.send('/readyz')).status).toBe(200), { timeout: 30_000 });
    await vi.waitFor(async () => expect((await manager.send('/functions')).json()).toEqual(before));
    expect((await manager.call(cold, 'after')).text).toBe('{"result":"after"}');
    const added = await manager.add(ECHO);
    expect((await manager.call(added.id, 'new')).text).toBe('{"result":"new"}');
    // The manager is told of changes again: it stops calling what is gone.
    expect((await manager.remove(warm)).status).toBe(204);
    expectProblem(await manager.call(warm), 404, 'function_not_found');
    expect(manager.log).not.toContain('failed unexpectedly');
  });

  it('is waited for while a manager boots', { timeout: 120_000 }, async () => {
    const whole = await CutRelay.open(stage.databaseUrl, Infinity, 0);
    await (await stage.start({ DATABASE_URL: whole.url })).stop();
    whole.close();
    for (const share of [0.2, 0.5, 0.7, 0.8, 0.9]) {
      const relay = await CutRelay.open(stage.databaseUrl, Math.round(whole.sent * share), 300);
      const booted = await stage.start({ DATABASE_URL: relay.url });
      await vi.waitFor(async () => expect((await booted.send('/readyz')).status).toBe(200), { timeout: 30_000 });
      await booted.stop();
      relay.close();
    }
    expect(stage.manager.log).toContain('waiting for the database');
  });

  it('loses no call in flight', async () => {
    const { manager, postgres } = stage;
    const { id } = await manager.add(SLEEPY);
    await manager.call(id, 'sleep 0');
    const inFlight = manager.call(id, 'sleep 1.5');
    await manager.call(id, 'sleep 0');
    await postgres.restart();
    expect((await inFlight).text).toBe('{"result":"slept"}');
  });
});
