import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { Observed } from '#libs/orchestrator/workload.js';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Installation, type RunningManager } from '../reconcile/installation.js';
import { createSharedDatabase } from '../support/postgres.js';

const CONCURRENCY = 4;
const STEP_MS = 300;
/** For a step that was cut to put things in order. */
const GRACE_MS = 3_000;

let here: Installation;

beforeAll(async () => {
  here = await Installation.open(await createSharedDatabase());
});
afterAll(() => here.close());
afterEach(() => here.reset());

const never = () => new Promise<never>(() => undefined);
const start = (config = {}) => here.start({ concurrency: CONCURRENCY, stepTimeoutMs: STEP_MS, ...config });

/** From now on the engine's answers to one question about these functions never come, whatever their asker's signal does. */
function hang(manager: RunningManager, verb: 'ensure' | 'remove', ids: readonly string[]): void {
  const { orchestrator } = manager;
  if (verb === 'ensure') {
    const ensure = orchestrator.ensure.bind(orchestrator);
    orchestrator.ensure = (workload, signal) =>
      ids.includes(workload.functionId) ? never() : ensure(workload, signal);
    return;
  }
  const remove = orchestrator.remove.bind(orchestrator);
  orchestrator.remove = (id, graceMs, signal) => (ids.includes(id) ? never() : remove(id, graceMs, signal));
}

describe('an engine that never answers', () => {
  it('keeps no step for ever: other functions become ready and go', async () => {
    const ids = await Promise.all(Array.from({ length: 2 * CONCURRENCY }, () => here.add()));
    const manager = start();
    hang(manager, 'ensure', ids);
    const honest = await here.add();
    await here.ready(honest, 2 * (STEP_MS + GRACE_MS) + 5_000);
    await here.repository.markDeleted(honest);
    await here.gone(honest, STEP_MS + GRACE_MS + 5_000);
    for (const id of ids) {
      expect(await here.row(id)).toMatchObject({ reason: { code: 'orchestrator_unavailable' }, endpoints: [] });
    }
  });

  it('keeps no removal of another function, and makes its own when it answers again', async () => {
    const manager = start();
    const ids = await Promise.all(Array.from({ length: CONCURRENCY }, () => here.add()));
    const honest = await here.add();
    for (const id of [...ids, honest]) await here.ready(id);
    const { remove } = manager.orchestrator;
    hang(manager, 'remove', ids);
    for (const id of ids) await here.repository.markDeleted(id);
    await vi.waitFor(async () => {
      const rows = await Promise.all(ids.map((id) => here.row(id)));
      expect(rows.every(({ postponed }) => postponed > 0)).toBe(true);
    }, 20_000);
    await here.repository.markDeleted(honest);
    await here.gone(honest);
    manager.orchestrator.remove = remove.bind(manager.orchestrator);
    for (const id of ids) await here.gone(id, 15_000);
  });

  it('writes nothing when it answers after the step was given up', async () => {
    const manager = start();
    const late = Promise.withResolvers<Observed>();
    manager.orchestrator.ensure = () => {
      // This step alone hangs; those after it fail at once.
      manager.orchestrator.ensure = () => Promise.reject(new OrchestratorUnavailable('memory', 'still'));
      return late.promise;
    };
    const id = await here.add();
    await vi.waitFor(async () => expect((await here.row(id)).postponed).toBeGreaterThan(0), 10_000);
    const record = vi.spyOn(manager.repository, 'record');
    const address = { kind: 'tcp', host: '127.0.0.1', port: 1 } as const;
    const endpoints = [{ replica: 'late', address }];
    late.resolve({ replicas: 1, ready: 1, endpoints, primary: 'late', hostPort: 0 });
    // Another step has been made since.
    const { postponed } = await here.row(id);
    await here.letTimePass();
    await vi.waitFor(async () => expect((await here.row(id)).postponed).toBeGreaterThan(postponed), 10_000);
    expect(record).not.toHaveBeenCalled();
    expect(await here.row(id)).toMatchObject({ phase: 'creating', endpoints: [] });
  });

  it('keeps no orphan but the one that it never lets go of', async () => {
    const orphans = [];
    for (let count = 0; count < 3; count += 1) {
      const id = await here.add();
      const row = await here.row(id);
      const { timeoutMs, concurrency, memoryMiB, cpuMillis, pids } = row;
      const limits = { timeoutMs, concurrency, memoryMiB, cpuMillis, pids };
      const code = Buffer.from('');
      const workload = {
        functionId: id,
        revision: 1,
        functionName: 'handle',
        code,
        codeSha256: '',
        replicas: 1,
        limits,
      };
      await here.engine().ensure(workload, AbortSignal.timeout(1_000));
      await here.database.query('DELETE FROM functions WHERE id = $1', [id]);
      orphans.push(id);
    }
    const [stuck] = (await here.engine().list(AbortSignal.timeout(1_000))) as [string];
    const manager = start({ orphanSweepMs: 50 });
    hang(manager, 'remove', [stuck]);
    const list = manager.orchestrator.list.bind(manager.orchestrator);
    manager.orchestrator.list = vi.fn(list).mockImplementationOnce(never);
    for (const id of orphans.filter((one) => one !== stuck)) await here.gone(id, 15_000);
    expect(here.replicasOf(stuck)).toHaveLength(1);
  });

  it('keeps no manager from leaving', async () => {
    const manager = start({ stepTimeoutMs: 60_000, orphanSweepMs: 50 });
    const ids = await Promise.all(Array.from({ length: CONCURRENCY }, () => here.add()));
    hang(manager, 'ensure', ids);
    manager.orchestrator.list = vi.fn(never);
    await vi.waitFor(() => expect(manager.orchestrator.list).toHaveBeenCalled());
    await vi.waitFor(async () => {
      const rows = await Promise.all(ids.map((id) => here.row(id)));
      expect(rows.every(({ leaseToken }) => leaseToken !== null)).toBe(true);
    });
    const began = performance.now();
    await manager.stop();
    expect(performance.now() - began).toBeLessThan(12_000);
    // Their rows are free for the next one.
    for (const id of ids) expect((await here.row(id)).leaseToken).toBeNull();
  });
});
