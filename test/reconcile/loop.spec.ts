import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startTestPostgres, type TestPostgres } from '../support/postgres.js';
import { Installation, newFunction } from './installation.js';

let postgres: TestPostgres;
let here: Installation;

beforeAll(async () => {
  postgres = await startTestPostgres();
  here = await Installation.open(await postgres.createDatabase());
});
afterAll(async () => {
  await here.close();
  await postgres.stop();
});
afterEach(() => here.reset());

describe('ReconcileLoop', () => {
  it('makes a new function ready with its replicas, and removes it without a trace', async () => {
    here.start();
    const id = await here.add({ replicas: 3 });
    const row = await here.ready(id);
    expect(row).toMatchObject({ observedGeneration: 1, failures: 0, reason: null, provisionalUntil: null });
    expect(row.primaryReplica).toBe(row.endpoints[0]!.replica);
    await here.repository.markDeleted(id);
    await here.gone(id);
    expect(await here.engine().list(AbortSignal.timeout(1_000))).toEqual([]);
  });

  it('replaces a replica that ended, says why it did, and restarts no other', async () => {
    here.start();
    const id = await here.add({ replicas: 2 });
    const before = (await here.ready(id)).endpoints.map(({ replica }) => replica);
    here.world.killReplica(before[0]!, 'out_of_memory');
    await expect.poll(async () => (await here.row(id)).lastFault?.code).toBe('out_of_memory');
    const after = await here.ready(id);
    expect(after.endpoints.map(({ replica }) => replica)).toContain(before[1]);
    expect(here.world.started).toBe(3);
    expect(after).toMatchObject({ failures: 1, reason: null });
  });

  it('restarts no healthy replica when managers stop, crash and start', async () => {
    const first = here.start();
    const id = await here.add({ replicas: 2 });
    const before = await here.ready(id);
    await first.stop();
    await here.start().crash();
    here.start({ resyncMs: 500 });
    await here.letTimePass();
    await expect.poll(async () => (await here.row(id)).reconcileAt!.getTime()).toBeGreaterThan(Date.now() + 100);
    expect((await here.row(id)).endpoints).toEqual(before.endpoints);
    expect(here.world.started).toBe(2);
  });

  it('heals by its poll and its resync what no notification and no hint told', async () => {
    const manager = here.start({ resyncMs: 500 }, { deaf: true });
    const id = await here.add();
    const before = await here.ready(id);
    // The engine's hints go to nobody from here on.
    const mute = manager.repository.requestReconcile.bind(manager.repository);
    manager.repository.requestReconcile = () => Promise.resolve();
    here.world.killReplica(before.primaryReplica);
    await expect.poll(async () => (await here.row(id)).lastFault?.code, { timeout: 15_000 }).toBe('worker_crashed');
    manager.repository.requestReconcile = mute;
    await here.ready(id);
  });

  it('is woken by a notification long before its poll', async () => {
    here.start({ pollMs: 60_000 });
    const began = performance.now();
    await here.ready(await here.add());
    expect(performance.now() - began).toBeLessThan(20_000);
  });

  it('never has one function in the hands of two managers, however many there are', async () => {
    const ids = await Promise.all(Array.from({ length: 6 }, () => here.add({ replicas: 2 })));
    const inside = new Map<string, number>();
    let most = 0;
    const managers = [here.start(), here.start(), here.start()];
    for (const { orchestrator } of managers) {
      orchestrator.duringEnsure = async ({ functionId }) => {
        const now = (inside.get(functionId) ?? 0) + 1;
        inside.set(functionId, now);
        most = Math.max(most, now);
        await delay(5);
        inside.set(functionId, inside.get(functionId)! - 1);
      };
    }
    for (let round = 0; round < 8; round += 1) {
      await here.repository.requestReconcileOfAll();
      here.world.killReplica(here.world.replicas()[round]?.id ?? '');
      await delay(10);
    }
    await here.letTimePass();
    for (const id of ids) await here.ready(id, 15_000);
    expect(most).toBe(1);
    expect(managers.filter(({ orchestrator }) => orchestrator.steps.length > 0).length).toBeGreaterThan(1);
  });

  it('leaves functions to others once its manager is leaving, but the one an upload here waits for', async () => {
    const leaving = here.start();
    const settled = await here.add();
    await here.ready(settled);
    leaving.withdraw();
    const before = leaving.orchestrator.steps.length;
    const uploaded = await here.add();
    const row = () => leaving.repository.find(uploaded);
    const waited = leaving.changes.until(uploaded, 5_000, async () =>
      (await row())?.phase === 'running' ? 'ready' : undefined,
    );
    expect(await waited).toBe('ready');
    await here.repository.requestReconcile(settled);
    const other = here.start();
    await expect.poll(() => other.orchestrator.steps.filter(({ id }) => id === settled).length).toBeGreaterThan(0);
    expect(leaving.orchestrator.steps.slice(before).map(({ id }) => id)).not.toContain(settled);
  });

  it('runs no more steps at once than it is allowed to', async () => {
    let [inside, most] = [0, 0];
    const manager = here.start({ concurrency: 2 });
    manager.orchestrator.duringEnsure = async () => {
      most = Math.max(most, (inside += 1));
      await delay(10);
      inside -= 1;
    };
    const ids = await Promise.all(Array.from({ length: 9 }, () => here.add()));
    for (const id of ids) await here.ready(id);
    expect(most).toBe(2);
  });

  it('renews its lease as long as a step takes, so that no other manager steps in', async () => {
    const slow = here.start({ leaseMs: 600 });
    let steps = 0;
    const long = Promise.withResolvers<void>();
    slow.orchestrator.duringEnsure = () => ((steps += 1) === 1 ? long.promise : Promise.resolve());
    const id = await here.add();
    await expect.poll(() => steps).toBe(1);
    const other = here.start({ leaseMs: 600 });
    await delay(1_300);
    expect(other.orchestrator.steps).toEqual([]);
    long.resolve();
    await here.ready(id);
  });

  it('gives a crashed manager’s functions to another once its lease has ended', async () => {
    const first = here.start({ leaseMs: 500 });
    const hung = new Promise<void>(() => undefined);
    first.orchestrator.duringEnsure = () => hung;
    const id = await here.add();
    await expect.poll(() => first.orchestrator.steps.length).toBe(1);
    first.life.end();
    const second = here.start({ leaseMs: 500 });
    await delay(100);
    expect(second.orchestrator.steps).toEqual([]);
    await here.ready(id, 5_000);
  });

  it('hands its work over at once when it stops, and claims no more', async () => {
    const first = here.start({ leaseMs: 60_000 });
    const id = await here.add();
    const entered = Promise.withResolvers<void>();
    first.orchestrator.duringEnsure = async () => {
      entered.resolve();
      await delay(100);
    };
    await entered.promise;
    await first.stop();
    const steps = first.orchestrator.steps.length;
    expect((await here.row(id)).leaseToken).toBeNull();
    await here.add();
    await delay(200);
    expect(first.orchestrator.steps).toHaveLength(steps);
  });

  it('leaves no lease behind when it stops while it claims', async () => {
    const manager = here.start({ leaseMs: 60_000 });
    const claimed = Promise.withResolvers<void>();
    const claim = manager.repository.claim.bind(manager.repository);
    manager.repository.claim = async (...args) => {
      const claims = await claim(...args);
      if (claims.length > 0) claimed.resolve();
      await delay(200);
      return claims;
    };
    const id = await here.add();
    await claimed.promise;
    await manager.stop();
    expect((await here.row(id)).leaseToken).toBeNull();
  });

  it('keeps the phase of a function that is removed during a step, then removes it', async () => {
    const manager = here.start();
    const entered = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    manager.orchestrator.duringEnsure = async () => {
      entered.resolve();
      await go.promise;
    };
    const id = await here.add();
    await entered.promise;
    await here.repository.markDeleted(id);
    const phases = new Set<string>();
    const watching = (async () => {
      for (let row = await here.repository.find(id); row; row = await here.repository.find(id)) phases.add(row.phase);
    })();
    go.resolve();
    await watching;
    expect([...phases].filter((phase) => phase !== 'deleting')).toEqual([]);
    await here.gone(id);
  });

  it('finishes a removal after the engine comes back', async () => {
    here.start();
    const id = await here.add({ replicas: 2 });
    await here.ready(id);
    here.world.goDown();
    await here.repository.markDeleted(id);
    await expect.poll(async () => (await here.row(id)).reason?.code).toBe('orchestrator_unavailable');
    expect(await here.row(id)).toMatchObject({ phase: 'deleting', endpoints: [] });
    here.world.comeBack();
    await here.gone(id, 5_000);
  });

  it('keeps a ready function ready while the engine is away, and tries again less and less often', async () => {
    const manager = here.start();
    const id = await here.add();
    const before = await here.ready(id);
    here.world.goDown();
    await here.letTimePass();
    await expect.poll(async () => (await here.row(id)).postponed, { timeout: 10_000 }).toBeGreaterThanOrEqual(2);
    expect(await here.row(id)).toMatchObject({
      phase: 'running',
      endpoints: before.endpoints,
      reason: { code: 'orchestrator_unavailable' },
    });
    const away = manager.orchestrator.steps.filter((step) => step.id === id).slice(-2);
    expect(away[1]!.at - away[0]!.at).toBeGreaterThan(400);
    here.world.comeBack();
    await expect.poll(async () => (await here.row(id)).reason, { timeout: 15_000 }).toBeNull();
    expect(here.world.started).toBe(1);
  });

  it('holds no outage of the engine against a function whose replica ends after it', async () => {
    here.start();
    const id = await here.add();
    await here.ready(id);
    here.world.goDown();
    for (let postponed = 1; postponed <= 5; postponed += 1) {
      await here.repository.requestReconcile(id);
      await expect
        .poll(async () => (await here.row(id)).postponed, { timeout: 15_000 })
        .toBeGreaterThanOrEqual(postponed);
    }
    here.world.comeBack();
    await expect.poll(async () => (await here.row(id)).reason, { timeout: 15_000 }).toBeNull();
    expect(await here.row(id)).toMatchObject({ failures: 0, postponed: 0, phase: 'running' });
    here.world.killReplica(here.world.replicas()[0]!.id);
    await expect.poll(async () => (await here.row(id)).failures, { timeout: 15_000 }).toBe(1);
    expect(await here.ready(id)).toMatchObject({ phase: 'running', failures: 1 });
  });

  it('starts a function that crashes again and again less and less often', async () => {
    here.start();
    const started: number[] = [];
    const id = await here.add();
    const killer = setInterval(() => {
      for (const replica of here.world.replicas()) {
        if (replica.state !== 'ready') continue;
        started.push(performance.now());
        here.world.killReplica(replica.id);
      }
    }, 5);
    try {
      await expect.poll(async () => (await here.row(id)).failures, { timeout: 12_000 }).toBe(4);
    } finally {
      clearInterval(killer);
    }
    // The first end is made good at once; every later replacement waits, each time longer.
    expect(started.length).toBeLessThanOrEqual(4);
    expect(started[2]! - started[0]!).toBeGreaterThanOrEqual(850);
    const row = await here.row(id);
    expect(row).toMatchObject({ phase: 'creating', reason: { code: 'worker_crashed' } });
    expect(row.notBefore!.getTime() - Date.now()).toBeGreaterThan(2_000);
    expect(here.replicasOf(id)).toEqual([]);
    await here.repository.requestReconcile(id);
    await delay(100);
    expect(here.replicasOf(id), 'started before its pause was over').toEqual([]);
  });

  it('keeps a file that can’t be loaded until its time is over, starting it once, then leaves nothing', async () => {
    const wanted = newFunction({ provisionalForMs: 600 });
    here.world.failLoading(wanted.codeSha256);
    here.start();
    const { id } = await here.repository.insert(wanted);
    await expect.poll(async () => (await here.row(id)).phase).toBe('error');
    expect((await here.row(id)).reason).toMatchObject({ code: 'handler_not_loadable', line: 1, terminal: true });
    await here.repository.requestReconcile(id);
    await here.gone(id, 3_000);
    expect(here.world.started).toBe(1);
  });

  it('removes a run at its end whose manager was killed', async () => {
    here.start();
    const { id } = await here.repository.insert(newFunction({ provisionalForMs: 1_500, isRun: true }));
    await here.ready(id);
    await here.gone(id, 10_000);
    expect(here.replicasOf(id)).toEqual([]);
  });

  it('survives the database going away and coming back', async () => {
    here.start();
    const id = await here.add();
    const { primaryReplica } = await here.ready(id);
    // The test server answers before it has written; what counts here is written.
    await here.database.query('CHECKPOINT');
    await postgres.kill();
    here.world.killReplica(primaryReplica);
    await delay(150);
    await postgres.restart();
    await here.letTimePass();
    expect((await here.ready(id)).primaryReplica).not.toBe(primaryReplica);
  });
});

describe('OrphanCollector', () => {
  const replicasOf = async (owner: string) => (await here.engine(owner).list(AbortSignal.timeout(1_000))).toSorted();
  const abandon = async (owner?: string) => {
    const { id, maxReplicas: _most, secrets: _, ...created } = newFunction();
    const { timeoutMs, concurrency, memoryMiB, cpuMillis, pids } = created;
    const limits = { timeoutMs, concurrency, memoryMiB, cpuMillis, pids };
    const workload = { ...created, functionId: id, revision: 1, limits };
    await here.engine(owner).ensure(workload, AbortSignal.timeout(1_000));
    return id;
  };

  it('removes what has no function any more, and nothing of another installation', async () => {
    const foreign = await abandon('another-installation');
    await abandon();
    await abandon();
    const kept = await here.add();
    here.start({ orphanSweepMs: 100 });
    await here.ready(kept);
    await expect.poll(() => replicasOf('this-installation')).toEqual([kept]);
    expect(await replicasOf('another-installation')).toEqual([foreign]);
  });

  it('sweeps again after the engine was away', async () => {
    here.world.goDown();
    await abandon('x').catch(() => undefined);
    here.start({ orphanSweepMs: 50 });
    await delay(120);
    here.world.comeBack();
    await abandon();
    await expect.poll(() => replicasOf('this-installation')).toEqual([]);
  });

  it('sweeps on one manager at a time', async () => {
    let [inside, most, sweeps] = [0, 0, 0];
    const managers = Array.from({ length: 3 }, () => here.start({ orphanSweepMs: 30 }));
    for (const { orchestrator } of managers) {
      const list = orchestrator.list.bind(orchestrator);
      orchestrator.list = async (signal) => {
        sweeps += 1;
        most = Math.max(most, (inside += 1));
        await delay(15);
        inside -= 1;
        return list(signal);
      };
    }
    await expect.poll(() => sweeps, { timeout: 15_000 }).toBeGreaterThan(8);
    expect(most).toBe(1);
  });

  it('never takes functions that are being added for orphans', async () => {
    here.start({ orphanSweepMs: 10 });
    here.start({ orphanSweepMs: 10 });
    const ids = [];
    for (let n = 0; n < 30; n += 1) ids.push(await here.add());
    for (const id of ids) await here.ready(id);
    expect(here.world.started).toBe(30);
  });
});
