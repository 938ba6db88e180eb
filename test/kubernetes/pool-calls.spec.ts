import { beforeAll, describe, expect, it, vi } from 'vitest';
import { DEPLOYMENT, POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';
import { type Answer, expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { Stage } from '../support/stage.js';
import { eitherCluster } from './support/either-cluster.js';
import type { KubernetesRoom } from './support/kubernetes-room.js';
import { PoolView } from './support/pool-pods.js';
import { Traffic } from './support/traffic.js';
import { whyNoControlPlane } from './control-plane/shared.js';
import { ON_CLUSTER } from '../support/engine.js';

const noCluster = !ON_CLUSTER && whyNoControlPlane() !== undefined;

const WORD =
  'import asyncio\n\nasync def handle(payload):\n    await asyncio.sleep(float(payload))\n    return "done"\n';
const SLOW = { timeout: 60_000, interval: 50 };
const ROUNDS = 2;

describe.skipIf(noCluster)('calls while a pod of the pool serves [kubernetes]', () => {
  let room: KubernetesRoom;
  const stage = Stage.on(eitherCluster((opened) => (room = opened)));
  // Any manager may be the one that wakes a function, so each test has none but its own.
  beforeAll(() => stage.manager.stop());

  const withPool = () => stage.start({ WARM_POOL_SIZE: '2', SCALE_INTERVAL_MS: '100', DRAIN_TIMEOUT_MS: '5000' });
  const pool = () => new PoolView(room.cluster);

  /** Calls, a slow one among them, go on until they have been answered by the function's own pod for a while. */
  async function moveOver(managers: readonly TestManager[], id: string): Promise<void> {
    const traffic = new Traffic(4, (caller) =>
      managers[caller % managers.length]!.call(id, caller === 0 ? '0.7' : '0.01'),
    );
    await traffic.more(10);
    await vi.waitFor(async () => expect(await pool().of(id)).toEqual([]), SLOW);
    await traffic.more(100);
    expect(await traffic.stop()).toEqual([]);
  }

  it('go over to the function’s own pod without one that fails, after an upload and after each wake', async () => {
    const managers = [await withPool(), await withPool()];
    await pool().filled(4);
    const [first] = managers as [TestManager, TestManager];
    const { id } = await first.add(WORD, { idle_timeout_ms: 1_000 });
    expect(await pool().of(id)).toHaveLength(1);
    await moveOver(managers, id);
    for (let round = 0; round < ROUNDS; round += 1) {
      await vi.waitFor(async () => {
        expect((await first.send(`/functions/${id}`)).json()).toMatchObject({ status: 'idle' });
        expect(await room.cluster.of(id)).toEqual([]);
      }, SLOW);
      await pool().filled(4);
      const answer = await managers[round % 2]!.call(id, '0');
      expect([answer.status, answer.headers['x-cold-start']]).toEqual([200, 'true']);
      expect(await pool().of(id)).toHaveLength(1);
      await moveOver(managers, id);
    }
    await first.remove(id);
    expect(await room.cluster.of(id)).toEqual([]);
    for (const manager of managers) await manager.stop();
    await vi.waitFor(async () => expect(await room.workers()).toEqual([]), SLOW);
  });

  it('are of that pod alone where code is run once, which loads it once', async () => {
    const manager = await withPool();
    await pool().filled(2);
    // For longer than a pod of its own takes to start.
    const code = 'import time\nprint("loaded")\ndef handle(payload):\n    time.sleep(6)\n    return "done"\n';
    const headers = { 'Content-Type': 'application/json' };
    const run = (file: string) =>
      manager.send('/runs', { method: 'POST', headers, body: JSON.stringify({ function_name: 'handle', code: file }) });
    let answer: Answer | undefined;
    const asked = run(code).then((given) => (answer = given));
    const made = new Set<string>();
    await vi.waitFor(async () => {
      const objects = await Promise.all([POD, DEPLOYMENT].map((kind) => room.cluster.ours(kind)));
      for (const { metadata } of objects.flat()) {
        if (metadata?.labels?.[LABEL.functionId] !== undefined) made.add(metadata.name ?? '');
      }
      expect(answer).toBeDefined();
    }, SLOW);
    const { status, text } = await asked;
    expect(status, text).toBe(200);
    expect(JSON.parse(text)).toMatchObject({ result: 'done', logs: [{ line: 'loaded' }] });
    expect(made.size).toBe(1);
    await pool().filled(2);
    expectProblem(await run('import nowhere_to_be_found\n'), 422, 'handler_not_loadable');
    const ofFunctions = async () =>
      (await room.cluster.ours(POD)).filter(({ metadata }) => metadata?.labels?.[LABEL.functionId] !== undefined);
    await vi.waitFor(async () => expect(await ofFunctions()).toEqual([]), SLOW);

    await pool().filled(2);
    const lost = run(code);
    await vi.waitFor(async () => {
      expect((await manager.send('/metrics')).text).toMatch(/^faas_calls_in_flight\{function="run"\} 1/m);
    }, SLOW);
    const [pod, ...others] = await ofFunctions();
    expect(others).toEqual([]);
    await room.cluster.endPods(pod?.metadata?.labels?.[LABEL.functionId] ?? '');
    expectProblem(await lost, 502, 'worker_crashed');
    const had = new Set([pod?.metadata?.name]);
    await vi.waitFor(async () => {
      const now = await ofFunctions();
      for (const { metadata } of now) had.add(metadata?.name);
      expect(now).toEqual([]);
    }, SLOW);
    expect(had.size).toBe(1);
    await manager.stop();
    await vi.waitFor(async () => expect(await room.workers()).toEqual([]), SLOW);
  });

  it('are answered by a cold start where there is no pod that waits', async () => {
    const manager = await stage.start({ SCALE_INTERVAL_MS: '100' });
    const { id } = await manager.add(WORD, { idle_timeout_ms: 500 });
    expect(await pool().all()).toEqual([]);
    await vi.waitFor(async () => {
      expect((await manager.send(`/functions/${id}`)).json()).toMatchObject({ status: 'idle' });
    }, SLOW);
    expect((await manager.call(id, '0')).status).toBe(200);
    expect(await pool().all()).toEqual([]);
    await manager.remove(id);
    await manager.stop();
  });
});
