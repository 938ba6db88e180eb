import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { pino } from 'pino';
import { Notifications } from '#libs/database/notifications.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import { createSharedDatabase } from '../support/postgres.js';
import { Installation, newFunction, type RunningManager } from './installation.js';

/** So slow that whatever happens in a test, no poll has made it happen. */
const NO_POLL = { pollMs: 60_000 };

let here: Installation;

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
});
afterAll(() => here.close());
afterEach(() => here.reset());

/** Its last replica goes, and a step has seen that. */
async function putToSleep(id: string): Promise<void> {
  await here.database.query(
    `UPDATE functions SET replicas = 0, generation = generation + 1, reconcile_at = now(), wakes = wakes + 1
     WHERE id = $1`,
    [id],
  );
  await expect.poll(async () => (await here.row(id)).phase, { timeout: 15_000 }).toBe('idle');
}

/** What a manager asks of the engine, each with how often the code had been read for it by then. */
function askedBy(manager: RunningManager) {
  const asked: (Workload & { readonly looks: number })[] = [];
  let looks = 0;
  const { repository, orchestrator } = manager;
  const revision = repository.revision.bind(repository);
  repository.revision = (id, number) => {
    looks += 1;
    return revision(id, number);
  };
  orchestrator.duringEnsure = (workload) => Promise.resolve(asked.push({ ...workload, looks }));
  return asked;
}

describe('A step that begins with the request for it', () => {
  it('makes a new function ready without a notification or a poll, and reads no code that it was given', async () => {
    const manager = here.start(NO_POLL, { deaf: true });
    const asked = askedBy(manager);
    const wanted = newFunction();
    const id = await manager.add(wanted);
    expect(await here.ready(id)).toMatchObject({ phase: 'running', leaseToken: null });
    expect(asked[0]).toMatchObject({ functionId: id, code: wanted.code, isFresh: true, looks: 0 });
    expect(asked.slice(1).filter(({ isFresh }) => isFresh)).toEqual([]);
  });

  it('tells of the worker of a run before that is written, and of an upload’s only afterwards', async () => {
    const manager = here.start(NO_POLL, { deaf: true });
    const told = new Set<string>();
    manager.bus.on('ready', (id, endpoints) => {
      if (endpoints.length > 0) told.add(id);
    });
    const recorded = manager.repository.record.bind(manager.repository);
    /** Whether a function's worker had been told of when the first step that has seen it was written. */
    const toldBefore = new Map<string, boolean>();
    manager.repository.record = (claim, outcome) => {
      const { id } = claim.row;
      if (outcome.endpoints.length > 0 && !toldBefore.has(id)) toldBefore.set(id, told.has(id));
      return recorded(claim, outcome);
    };
    const run = await manager.add(newFunction({ isRun: true }));
    const upload = await manager.add();
    for (const id of [run, upload]) await here.ready(id);
    expect(Object.fromEntries(toldBefore)).toEqual({ [run]: true, [upload]: false });
  });

  it('calls nobody else to the row, who could not act upon it anyway', async () => {
    const listener = new Notifications(here.url, pino({ level: 'silent' }));
    const heard: (string | undefined)[] = [];
    listener.on('faas_due', (id) => heard.push(id));
    listener.start();
    try {
      await expect.poll(() => heard).toEqual([undefined]);
      const held = newFunction();
      await here.repository.insert(held, { token: randomUUID(), ms: 60_000 });
      const due = await here.add();
      await expect.poll(() => heard).toContain(due);
      expect(heard).not.toContain(held.id);
    } finally {
      await listener.close();
    }
  });

  it('wakes a function the same way, with the code that it had', async () => {
    const awake = here.start();
    const wanted = newFunction();
    const id = await awake.add(wanted);
    await here.ready(id);
    await putToSleep(id);
    await awake.stop();
    const manager = here.start(NO_POLL, { deaf: true });
    await expect.poll(async () => (await here.row(id)).leaseToken).toBeNull();
    const asked = askedBy(manager);
    expect(await manager.wake(id)).toBe(true);
    await here.ready(id);
    expect(asked.find(({ isFresh }) => isFresh)).toMatchObject({
      code: wanted.code,
      codeSha256: wanted.codeSha256,
      functionName: 'handle',
      revision: 1,
      looks: 0,
    });
  });

  it('brings up a revision the same way, and the one that is gone back to', async () => {
    const manager = here.start(NO_POLL, { deaf: true });
    const id = await manager.add();
    await here.ready(id);
    await expect.poll(async () => (await here.row(id)).leaseToken).toBeNull();
    const asked = askedBy(manager);
    const served = async () => {
      const { activeRevision, servingRevision } = await here.row(id);
      return servingRevision === null ? activeRevision : undefined;
    };
    const code = Buffer.from('def handle(payload):\n    return 2\n');
    expect(await manager.revise(id, code)).toBe(2);
    await expect.poll(served, { timeout: 10_000 }).toBe(2);
    expect(asked[0]).toMatchObject({ revision: 2, formerRevision: 1, code, looks: 0 });
    await expect.poll(async () => (await here.row(id)).leaseToken).toBeNull();

    asked.length = 0;
    await manager.rollBack(id, 1);
    await expect.poll(served, { timeout: 10_000 }).toBe(1);
    expect(asked[0]).toMatchObject({ revision: 1, formerRevision: 2 });
    expect(asked[0]?.code.equals(code)).toBe(false);
  });

  it('is not needed for traffic whose workers are ready', async () => {
    const manager = here.start();
    const id = await manager.add();
    await here.ready(id);
    await manager.revise(id, Buffer.from('def handle(payload):\n    return 2\n'));
    await expect.poll(async () => (await here.row(id)).servingRevision, { timeout: 10_000 }).toBeNull();
    const shares = (first: number) => [
      { revision: 1, percent: first },
      { revision: 2, percent: 100 - first },
    ];
    const asked = { versions: undefined, withinMs: 60_000 };
    await manager.traffic.want(id, shares(10), asked);
    await expect.poll(async () => (await here.row(id)).traffic?.targets, { timeout: 10_000 }).toMatchObject(shares(10));
    await manager.stop();
    const requests = async () => {
      const rows = await Promise.all((await here.repository.idsOf(id)).map((one) => here.row(one)));
      return Object.fromEntries(rows.map((row) => [row.id, row.reconcileRequests]));
    };
    const before = await requests();

    const { row } = await manager.traffic.want(id, shares(40), asked);
    expect(row).toMatchObject({ traffic: { targets: shares(40) }, wantedTraffic: null });
    expect(await requests()).toEqual(before);
  });

  it('is not taken for a fresh start while the last replica is still on its way out', async () => {
    const manager = here.start();
    const id = await manager.add();
    await here.ready(id);
    await manager.stop();
    const other = here.start(NO_POLL, { deaf: true });
    await here.database.query(`UPDATE functions SET replicas = 0, generation = generation + 1 WHERE id = $1`, [id]);
    const asked = askedBy(other);
    expect(await other.wake(id)).toBe(true);
    await here.ready(id);
    expect(asked.filter(({ isFresh }) => isFresh)).toEqual([]);
  });

  it('is made by one of many managers that are called at once', async () => {
    const managers = [here.start(), here.start(), here.start()];
    const id = await managers[0]!.add();
    await here.ready(id);
    await putToSleep(id);
    const before = here.world.started;
    const woken = await Promise.all(managers.flatMap((manager) => [manager.wake(id), manager.wake(id)]));
    expect(woken.filter(Boolean)).toHaveLength(1);
    await here.ready(id);
    expect(here.world.started - before).toBe(1);
  });

  it('leaves the row to the manager that holds it, which then sees what was asked', async () => {
    const holder = here.start({ leaseMs: 60_000 });
    const id = await holder.add();
    await here.ready(id);
    const gate = Promise.withResolvers<void>();
    const entered = Promise.withResolvers<void>();
    holder.orchestrator.duringEnsure = ({ replicas }) => {
      if (replicas > 0) return Promise.resolve();
      entered.resolve();
      return gate.promise;
    };
    await here.database.query(
      `UPDATE functions SET replicas = 0, generation = generation + 1, reconcile_at = now(), wakes = wakes + 1`,
    );
    await entered.promise;
    const caller = here.start();
    const steps = () => caller.orchestrator.steps.filter((step) => step.id === id);
    const { leaseToken } = await here.row(id);
    expect(await caller.wake(id)).toBe(true);
    expect(await here.row(id)).toMatchObject({ replicas: 1, leaseToken });
    expect(steps()).toEqual([]);
    gate.resolve();
    await here.ready(id);
  });

  it('waits in the row while this manager makes as many steps as it may', async () => {
    const manager = here.start({ concurrency: 2 });
    let [inside, most] = [0, 0];
    manager.orchestrator.duringEnsure = async () => {
      most = Math.max(most, (inside += 1));
      await delay(10);
      inside -= 1;
    };
    const ids = await Promise.all(Array.from({ length: 9 }, () => manager.add()));
    for (const id of ids) await here.ready(id);
    expect(most).toBe(2);
  });

  it('is due for everybody when its statement was written and its answer lost', async () => {
    const manager = here.start({ leaseMs: 60_000 }, { deaf: true });
    const wanted = newFunction();
    const lost = manager.inline.write(wanted.id, async (lease) => {
      await here.repository.insert(wanted, lease);
      throw new Error('the answer was lost');
    });
    await expect(lost).rejects.toThrow('the answer was lost');
    here.start({ leaseMs: 60_000 });
    await here.ready(wanted.id);
  });

  it('is left to the others by a manager that is leaving', async () => {
    const leaving = here.start();
    leaving.withdraw();
    const id = await leaving.add();
    here.start();
    await here.ready(id);
    expect(leaving.orchestrator.steps).toEqual([]);
  });

  it('is made by another manager when this one is killed at any moment of it', async () => {
    for (let moments = 0; moments <= 8; moments += 1) {
      const first = here.start({ ...NO_POLL, leaseMs: 1_000 }, { deaf: true });
      const wanted = newFunction();
      first.life.endAfter(moments);
      first.add(wanted).catch(() => undefined);
      await delay(30);
      await first.crash();
      // Its lease would end in a second; the test needn't wait for it.
      await here.database.query(`UPDATE functions SET lease_until = now() - interval '1 second'`);
      here.start();
      const written = (await here.repository.find(wanted.id)) !== null;
      if (written) await here.ready(wanted.id);
      expect(here.world.started, `killed after ${moments} moments`).toBe(written ? 1 : 0);
      await here.reset();
    }
  });
});
