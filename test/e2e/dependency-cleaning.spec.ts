import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { describeOnEachLocalEngine } from '../support/engines.js';
import { cachedBytes, wipeLayers } from '../support/layers.js';
import type { TestManager } from '../support/manager.js';
import { PackageIndex } from '../support/package-index.js';
import { hostForWorkers } from '../support/package-index-host.js';
import { onServer } from '../support/postgres.js';
import { Stage } from '../support/stage.js';
import { wheel } from '../support/wheels.js';

const uses = (name: string) => `import ${name}\ndef handle(payload):\n    return ${name}.VERSION\n`;
const MIB = 1024 * 1024;
const PATIENCE = { timeout: 60_000, interval: 250 };

describeOnEachLocalEngine('What packages leave behind', (engine) => {
  let index: PackageIndex;
  let manager: TestManager;
  const stage = Stage.on(engine);
  beforeAll(async () => {
    index = await PackageIndex.open(await hostForWorkers(engine));
    index.add(wheel('usedpkg'), wheel('unusedpkg'), wheel('laterpkg'));
    manager = await stage.start({ PYTHON_INDEX_URL: index.url, ORPHAN_SWEEP_MS: '500', BUILD_CACHE_MIB: '1' });
  });
  afterAll(() => index.close());

  const layerOf = async (id: string) =>
    ((await manager.send(`/functions/${id}/revisions/1`)).json() as { layer: string }).layer;
  const kept = async () => {
    // What counts as used now is made to look as if nobody had used it for a year.
    await onServer(stage.databaseUrl, `UPDATE layers SET used_at = now() - interval '1 year'`);
    const answers = await Promise.all(['usedpkg', 'unusedpkg'].map((name) => isKept(layers[name]!)));
    return answers;
  };
  const layers: Record<string, string> = {};
  const isKept = async (layer: string) =>
    onServer(stage.databaseUrl, `SELECT 1 / count(*) FROM layers WHERE digest = '${layer}'`).then(
      () => true,
      () => false,
    );

  it('is removed when nothing names it any more, and never what a function has', async () => {
    const [used, unused] = await Promise.all(
      ['usedpkg', 'unusedpkg'].map((name) => manager.add(uses(name), { requirements: name })),
    );
    layers['usedpkg'] = await layerOf(used!.id);
    layers['unusedpkg'] = await layerOf(unused!.id);
    await manager.remove(unused!.id);
    await vi.waitFor(async () => expect(await kept()).toEqual([true, false]), PATIENCE);
    // Other sweeps come by. What is unpacked is lost as well, and the next replica has it again.
    await wipeLayers(stage);
    expect(await kept()).toEqual([true, false]);
    const body = JSON.stringify({ timeout_ms: 9_000 });
    const headers = { 'Content-Type': 'application/json' };
    const revised = await manager.send(`/functions/${used!.id}/revisions`, { method: 'POST', headers, body });
    expect(revised.status, revised.text).toBe(201);
    expect((await manager.call(used!.id)).json()).toEqual({ result: '1.0' });
    await manager.remove(used!.id);
  });

  it('is no more than may be kept for later builds, which go on without it', async () => {
    const data = randomBytes(3 * MIB);
    index.add(wheel('bulkypkg', { files: { 'bulkypkg/__init__.py': 'VERSION = "1.0"\n', 'bulkypkg/data': data } }));
    const { id } = await manager.add(uses('bulkypkg'), { requirements: 'bulkypkg' });
    await vi.waitFor(async () => expect(await cachedBytes(stage)).toBeLessThan(MIB), PATIENCE);
    const { id: later } = await manager.add(uses('laterpkg'), { requirements: 'laterpkg\nbulkypkg' });
    for (const one of [id, later]) expect((await manager.call(one)).json()).toEqual({ result: '1.0' });
    for (const one of [id, later]) await manager.remove(one);
  });
});
