import { createHash } from 'node:crypto';
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { describeOnEachEngineWithLayers } from '../support/engines.js';
import { type Answer, expectProblem } from '../support/http.js';
import { emptyLayers, killBuilds, nothingIsBuilt, wipeLayers } from '../support/layers.js';
import type { TestManager } from '../support/manager.js';
import { PackageIndex } from '../support/package-index.js';
import { hostForWorkers } from '../support/package-index-host.js';
import { Stage } from '../support/stage.js';
import { wheel } from '../support/wheels.js';

const uses = (name: string) => `import ${name}\ndef handle(payload):\n    return ${name}.VERSION\n`;
const MIB = 1024 * 1024;

describeOnEachEngineWithLayers('Packages that can’t be built', (engine) => {
  let index: PackageIndex;
  let manager: TestManager;
  const stage = Stage.on(engine);
  beforeAll(async () => {
    index = await PackageIndex.open(await hostForWorkers(engine));
    manager = await stage.start({ PYTHON_INDEX_URL: index.url, MAX_LAYER_MIB: '1' });
  });
  afterEach(() => {
    index.mood = 'sound';
    index.letGo();
  });
  afterAll(() => index.close());

  const add = (requirements: string, { code = 'def handle(p): pass', by = manager } = {}): Promise<Answer> =>
    by.send('/functions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ code, function_name: 'handle', requirements }),
    });
  const idOf = (answer: Answer) => {
    expect(answer.status, answer.text).toBe(201);
    return (answer.json() as { id: string }).id;
  };

  it('are refused before anything is built where they lead elsewhere', async () => {
    for (const line of [
      '-e .',
      'git+https://example.org/a',
      'a @ file:///etc/passwd',
      '--index-url http://example.org',
    ]) {
      const problem = expectProblem(await add(`ok\n${line}`), 400, 'invalid_upload');
      expect(problem).toMatchObject({ field: 'requirements', detail: expect.stringContaining('line 2') as string });
    }
    expect(index.asked).toEqual([]);
  });

  it('have no wheel', async () => {
    const bytes = Buffer.from('no archive');
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    index.add({ file: 'srconly-1.0.tar.gz', project: 'srconly', bytes, sha256 });
    const refused = expectProblem(await add('srconly'), 422, 'requirements_not_installable');
    expect(refused.detail).toMatch(/no usable wheels/);
  });

  it('are more than there may be', async () => {
    const content = Buffer.alloc(2 * MIB, 'a');
    index.add(wheel('bigpkg', { files: { 'bigpkg/__init__.py': '', 'bigpkg/data.bin': content } }));
    const refused = expectProblem(await add('bigpkg'), 422, 'requirements_not_installable');
    expect(refused.detail).toMatch(/more than 1 MiB \(MAX_LAYER_MIB\)/);
  });

  it('have other hashes than the index, or the lock, says', async () => {
    index.add(wheel('liedpkg'));
    index.mood = 'lies';
    const lied = expectProblem(await add('liedpkg'), 422, 'requirements_not_installable');
    expect(lied.detail).toMatch(/[Hh]ash mismatch/);
    index.mood = 'sound';
    const locked = await add(`liedpkg==1.0 --hash=sha256:${'0'.repeat(64)}`);
    expect(expectProblem(locked, 422, 'requirements_not_installable').detail).toMatch(/[Hh]ash/);
  });

  it('come from an index that says nothing: the build ends in its time, and nothing is left of it', async () => {
    index.mood = 'silent';
    const impatient = await stage.start({ PYTHON_INDEX_URL: index.url, BUILD_TIMEOUT_MS: '3000' });
    const refused = expectProblem(await add('silentpkg', { by: impatient }), 503, 'build_unavailable');
    expect(refused.detail).toMatch(/longer than 3000 ms/);
    await nothingIsBuilt(stage);
    await impatient.stop();
  });

  it('come from an index that the installation may not ask', async () => {
    index.mood = 'closed';
    const refused = expectProblem(await add('closedpkg'), 503, 'build_unavailable');
    expect(refused.detail).toContain('401 Unauthorized');
  });

  it('are tried again after whatever built them was killed', async () => {
    index.add(wheel('killedpkg'));
    index.hold();
    const asking = add('killedpkg', { code: uses('killedpkg') });
    await vi.waitFor(() => expect(index.asked.some((path) => path.includes('/killedpkg-'))).toBe(true), {
      timeout: 30_000,
    });
    await killBuilds(stage);
    expectProblem(await asking, 503, 'build_unavailable');
    await nothingIsBuilt(stage);
    index.letGo();
    const id = idOf(await add('killedpkg', { code: uses('killedpkg') }));
    expect((await manager.call(id)).json()).toEqual({ result: '1.0' });
    await manager.remove(id);
  });

  it('come too late for a revision, or a function, that was removed meanwhile', async () => {
    const json = (method: string, path: string, body: object) =>
      manager.send(path, { method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
    const id = idOf(await add(''));
    const revised = async (requirements: string) => {
      index.add(wheel(requirements));
      index.hold();
      const answer = json('POST', `/functions/${id}/revisions`, { requirements });
      await vi.waitFor(() => expect(index.asked.join(' ')).toContain(`/${requirements}-`), {
        timeout: 60_000,
      });
      // A promise that is returned as it is would be waited for.
      return { answer };
    };

    const removed = await revised('lostpkg');
    const back = await json('POST', `/functions/${id}/rollback`, { revision: 2 });
    expect(expectProblem(back, 404, 'revision_not_found').detail).toMatch(/packages are not installed/);
    const divided = await json('PUT', `/functions/${id}/traffic`, { targets: [{ revision: 2, percent: 100 }] });
    expect(expectProblem(divided, 404, 'revision_not_found').detail).toMatch(/packages are not installed/);
    expect((await manager.send(`/functions/${id}/revisions/2`, { method: 'DELETE' })).status).toBe(204);
    index.letGo();
    expect(expectProblem(await removed.answer, 404, 'revision_not_found').detail).toMatch(/has no revision 2/);

    const late = await revised('latepkg');
    await manager.remove(id);
    index.letGo();
    expectProblem(await late.answer, 409, 'function_removed');
  });

  it.each(['a name', 'a lock'])('are built once for all who ask for them at once, by %s', async (form) => {
    const name = form === 'a lock' ? 'lockedpkg' : 'sharedpkg';
    const shared = wheel(name);
    index.add(shared);
    const requirements = form === 'a lock' ? `${name}==1.0 --hash=sha256:${shared.sha256}` : name;
    const other = await stage.start({ PYTHON_INDEX_URL: index.url, MAX_LAYER_MIB: '1' });
    const built = () => manager.log.split('"msg":"layer built"').length;
    const before = built();
    const managers = [manager, other, manager, other];
    const answers = await Promise.all(managers.map((by) => add(requirements, { code: uses(name), by })));
    const ids = answers.map(idOf);
    for (const id of ids) expect((await manager.call(id)).json()).toEqual({ result: '1.0' });
    expect(built()).toBe(before + 1);
    for (const id of ids) await manager.remove(id);
    await other.stop();
  });

  it('are taken over by another manager when theirs leaves', async () => {
    index.add(wheel('leftpkg'));
    const leaving = await stage.start({ PYTHON_INDEX_URL: index.url, DRAIN_TIMEOUT_MS: '500' });
    index.hold();
    const lost = add('leftpkg', { by: leaving }).catch(() => undefined);
    await vi.waitFor(() => expect(index.asked.some((path) => path.includes('/leftpkg-'))).toBe(true), {
      timeout: 30_000,
    });
    const asking = add('leftpkg', { code: uses('leftpkg') });
    await leaving.stop();
    index.letGo();
    await lost;
    // Whoever waited for the build of the other hears that it ended, and may ask again.
    const first = await asking;
    const id = idOf(first.status === 503 ? await add('leftpkg', { code: uses('leftpkg') }) : first);
    expect((await manager.call(id)).json()).toEqual({ result: '1.0' });
    await manager.remove(id);
  });

  it('are unpacked again after somebody has removed them', async () => {
    index.add(wheel('wipedpkg'));
    const warm = await stage.start({ PYTHON_INDEX_URL: index.url, WARM_POOL_SIZE: '2' });
    const id = idOf(await add('wipedpkg', { code: uses('wipedpkg'), by: warm }));
    await wipeLayers(stage);
    const others = await Promise.all([1, 2, 3].map(() => add('wipedpkg', { code: uses('wipedpkg'), by: warm })));
    for (const other of others) expect((await warm.call(idOf(other))).json()).toEqual({ result: '1.0' });
    for (const one of [id, ...others.map(idOf)]) await warm.remove(one);
    await warm.stop();
  });

  it('are never taken for those of the worker when they were removed under it', async () => {
    // The worker has another one of that name.
    index.add(wheel('idna'));
    const code = `import idna, os
def handle(payload):
    if payload == "leave":
        os._exit(3)
    return getattr(idna, "VERSION", "the worker's own")
`;
    const id = idOf(await add('idna', { code }));
    await wipeLayers(stage);
    await manager.call(id, 'leave');
    const results = new Set<string>();
    await vi.waitFor(async () => {
      const { status, text } = await manager.call(id);
      expect(status, text).toBe(200);
      results.add(text);
    }, 60_000);
    expect([...results]).toEqual(['{"result":"1.0"}']);
    await manager.remove(id);
  });

  it('are unpacked again after somebody has emptied their folder', async () => {
    index.add(wheel('emptiedpkg'));
    const id = idOf(await add('emptiedpkg', { code: uses('emptiedpkg') }));
    await emptyLayers(stage);
    const other = await stage.start({ PYTHON_INDEX_URL: index.url });
    const later = idOf(await add('emptiedpkg', { code: uses('emptiedpkg'), by: other }));
    expect((await other.call(later)).json()).toEqual({ result: '1.0' });
    for (const one of [id, later]) await other.remove(one);
    await other.stop();
  });

  it('come from a folder of wheels where there is no index, if the engine’s machine is one', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'faas-wheels-'));
    chmodSync(folder, 0o755);
    const { file, bytes } = wheel('offlinepkg', { version: '3.1' });
    writeFileSync(join(folder, file), bytes, { mode: 0o644 });
    const offline = await stage.start({ PYTHON_WHEELS_DIR: folder });
    const added = await add('offlinepkg', { code: uses('offlinepkg'), by: offline });
    if (engine.name === 'kubernetes') {
      expect(expectProblem(added, 422, 'requirements_unsupported').detail).toMatch(/PYTHON_WHEELS_DIR/);
    } else {
      expect((await offline.call(idOf(added))).json()).toEqual({ result: '3.1' });
      expectProblem(await add('elsewhere', { by: offline }), 422, 'requirements_not_installable');
      await offline.remove(idOf(added));
    }
    await offline.stop();
    await rm(folder, { recursive: true });
  });
});
