import { readdir, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { describeOnEachLocalEngine } from '../support/engines.js';
import { type Answer, expectProblem } from '../support/http.js';
import { nothingIsBuilt } from '../support/layers.js';
import type { TestManager } from '../support/manager.js';
import { PackageIndex } from '../support/package-index.js';
import { hostForWorkers } from '../support/package-index-host.js';
import { sourceDistribution } from '../support/source-distributions.js';
import { Stage } from '../support/stage.js';

const uses = (name: string) => `import ${name}\ndef handle(payload):\n    return ${name}.VERSION\n`;
const MIB = 1024 * 1024;
/** Processes that are told this live as long as nobody ends them. */
const LONG = '98765.4321';

describeOnEachLocalEngine('Packages without a wheel, where they may be built', (engine) => {
  let index: PackageIndex;
  let manager: TestManager;
  const stage = Stage.on(engine);
  beforeAll(async () => {
    index = await PackageIndex.open(await hostForWorkers(engine));
    manager = await stage.start({ PYTHON_INDEX_URL: index.url, ALLOW_SDISTS: 'true', BUILD_MEMORY_MIB: '300' });
  });
  afterAll(() => index.close());

  const add = (name: string): Promise<Answer> =>
    manager.send('/functions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ code: uses(name), function_name: 'handle', requirements: name }),
    });
  const expectServed = async (answer: Answer) => {
    expect(answer.status, answer.text).toBe(201);
    const { id } = answer.json() as { id: string };
    expect((await manager.call(id)).json()).toEqual({ result: '1.0' });
    await manager.remove(id);
  };

  it('are built by their own code and imported', async () => {
    index.add(await sourceDistribution('srcpkg'));
    await expectServed(await add('srcpkg'));
    await nothingIsBuilt(stage);
  });

  it('can’t take more memory than a build may have', async () => {
    const greedy = `held = bytearray(${600 * MIB}); time.sleep(60)`;
    index.add(await sourceDistribution('greedypkg', greedy));
    const refused = expectProblem(await add('greedypkg'), 422, 'requirements_not_installable');
    expect(refused.detail).toMatch(/300 MiB \(BUILD_MEMORY_MIB\)/);
    await nothingIsBuilt(stage);
  });

  it('leave nothing running, whatever they have started', async () => {
    const nowhere = 'stdin=-3, stdout=-3, stderr=-3';
    const daemon = `subprocess.Popen(["sleep", "${LONG}"], start_new_session=True, ${nowhere})`;
    index.add(await sourceDistribution('daemonpkg', daemon));
    await expectServed(await add('daemonpkg'));
    // Without a user of its own such a process leaves its group, and can't be told from others.
    if (engine.name === 'process' && process.geteuid?.() !== 0) await endSleepers();
    await vi.waitFor(async () => expect(await sleepers()).toEqual([]), { timeout: 20_000 });
  });
});

async function sleepers(): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (words.includes(LONG)) found.push(Number(pid));
  }
  return found;
}

async function endSleepers(): Promise<void> {
  for (const pid of await sleepers()) process.kill(pid, 'SIGKILL');
}
