import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { ManagerProcess } from '../crash/support/manager-process.js';
import { Stage } from '../crash/support/stage.js';
import { upload } from '../support/uploads.js';
import { Balancer } from './support/balancer.js';
import { TELLTALE } from '../kubernetes/support/handlers.js';
import { KubernetesSite } from './support/kubernetes-site.js';
import { Traffic } from '../kubernetes/support/traffic.js';

const CALLERS = 6;
const BOOT = { timeout: 60_000, interval: 50 };
/** Longer than a balancer needs to see that a manager leaves. */
const LEAVING = { SHUTDOWN_DELAY_MS: '2000', READY_TIMEOUT_MS: '60000' };

describe('two managers behind one address [kubernetes]', () => {
  let stage: Stage;
  let balancer: Balancer;
  let id: string;
  const ready = (manager: ManagerProcess) => vi.waitFor(() => expect(balancer.isReady(manager)).toBe(true), BOOT);
  const call = (caller: number) => {
    const payload = caller < 2 ? 'sleep 0.7' : 'sleep 0.02';
    return balancer.send(`/functions/${id}/execute`, { method: 'POST', body: JSON.stringify({ payload }) });
  };

  beforeAll(async () => {
    stage = await Stage.open(() => KubernetesSite.open({ env: LEAVING, hasPool: false }));
    balancer = new Balancer(stage.managers);
    await Promise.all(stage.managers.map(ready));
    const added = await balancer.send('/functions', { method: 'POST', ...upload(TELLTALE) });
    expect(added.status).toBe(201);
    ({ id } = added.json() as { id: string });
  });
  afterAll(async () => {
    balancer?.close();
    await stage?.close();
  });

  it('are replaced one after the other under load without a failed call', async () => {
    const traffic = new Traffic(CALLERS, call);
    await traffic.more(20);
    for (const manager of stage.managers) {
      expect(await manager.terminate()).toBe(0);
      await traffic.more(20);
      await manager.start();
      await ready(manager);
      await traffic.more(20);
    }
    expect(await traffic.stop()).toEqual([]);
  });

  it('cost no more than the calls that one of them held when it was killed', async () => {
    const [victim] = stage.managers as [ManagerProcess];
    const traffic = new Traffic(CALLERS, call);
    await traffic.more(20);
    await victim.kill();
    await traffic.more(20);
    await victim.start();
    await ready(victim);
    await traffic.more(20);
    const failures = await traffic.stop();
    // Each caller has one call under way: with more failures than callers, one that began later would be among them.
    expect(failures.length, failures.join('\n')).toBeLessThanOrEqual(CALLERS);
    for (const failure of failures) expect(failure).toMatch(new RegExp(`^${victim.name}: .*(hang up|ECONNRESET)`));
  });

  it('finish what the other one left: an upload and a removal under way when it is killed', async () => {
    const [victim, other] = stage.managers as [ManagerProcess, ManagerProcess];
    const added = balancer.send('/functions', { method: 'POST', ...upload(TELLTALE) });
    expect((await added).status).toBe(201);
    const { id: leaving } = (await added).json() as { id: string };
    const removal = stage.callers[0]!.remove(leaving);
    const uploading = stage.callers[0]!.upload(
      { code: Buffer.from(TELLTALE), functionName: 'handle', scaling: {} },
      5_000,
    );
    const listed = async () => (await stage.callers[1]!.list()) as { body?: Buffer };
    const rows = async () => JSON.parse((await listed()).body?.toString() ?? '[]') as { id: string; status: string }[];
    await vi.waitFor(async () => expect((await rows()).map(({ status }) => status)).toContain('creating'), BOOT);
    await victim.kill();
    expect([await removal, await uploading].map(({ kind }) => kind)).not.toContain('hung');
    await vi.waitFor(
      async () => {
        const now = await rows();
        expect(now.map((row) => row.id)).not.toContain(leaving);
        expect(now.map(({ status }) => status)).toEqual(now.map(() => 'running'));
        expect(await stage.site.leaks(new Set(now.map((row) => row.id)))).toEqual([]);
      },
      { timeout: 90_000, interval: 250 },
    );
    expect(other.deaths).toBeLessThanOrEqual(1);
    await victim.start();
    await ready(victim);
  });
});
