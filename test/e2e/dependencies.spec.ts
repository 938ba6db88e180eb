import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { describeOnEachEngineWithLayers } from '../support/engines.js';
import { expectProblem } from '../support/http.js';
import type { TestManager } from '../support/manager.js';
import { PackageIndex } from '../support/package-index.js';
import { hostForWorkers } from '../support/package-index-host.js';
import { Stage } from '../support/stage.js';
import { form } from '../support/uploads.js';
import { wheel } from '../support/wheels.js';

interface Revision {
  readonly revision: number;
  readonly status: string;
  readonly serving: boolean;
  readonly layer: string | null;
  readonly requirements?: string;
  readonly build: { readonly status: string; readonly elapsed_ms: number; readonly last_lines: string[] } | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

const TELLS_VERSION = 'import purepkg\ndef handle(payload):\n    return purepkg.VERSION\n';
const PLAIN = 'def handle(payload):\n    return "plain"\n';

const WHEELS = [
  wheel('purepkg', { version: '1.2' }),
  wheel('purepkg', { version: '2.0' }),
  wheel('needs-pure', { requires: ['purepkg<2'] }),
  wheel('wants-two', { requires: ['purepkg>=2'] }),
  wheel('datapkg', {
    files: { 'datapkg/__init__.py': '', 'datapkg/words.txt': 'ärger\n', 'datapkg/sub/deep.bin': Buffer.from([0, 255]) },
  }),
  wheel('toolpkg', {
    files: { 'toolpkg/__init__.py': 'import purepkg\ndef main():\n    print("tool of", purepkg.VERSION)\n' },
    requires: ['purepkg==1.2'],
    scripts: { 'say-it': 'toolpkg:main' },
  }),
  // The worker has another one loaded.
  wheel('click', { version: '99.0', files: { 'click/__init__.py': 'VERSION = "99.0"\n' } }),
];

describeOnEachEngineWithLayers('Packages of functions', (engine) => {
  let index: PackageIndex;
  let manager: TestManager;
  const stage = Stage.on(engine);
  beforeAll(async () => {
    index = await PackageIndex.open(await hostForWorkers(engine));
    index.add(...WHEELS);
    manager = await stage.start({
      PYTHON_INDEX_URL: index.url,
      PYTHON_INDEX_USER: 'reader',
      PYTHON_INDEX_PASSWORD: 'pA55w0rd',
    });
  });
  afterAll(() => index.close());

  const revisionsOf = async (id: string) => (await manager.send(`/functions/${id}/revisions`)).json() as Revision[];
  const revise = (id: string, body: object) =>
    manager.send(`/functions/${id}/revisions`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });

  it('are imported by the code, shown as a lock, and the same for the same lock', async () => {
    const { id } = await manager.add(TELLS_VERSION, { requirements: '# what it needs\npurepkg >= 1 , < 2\n' });
    expect((await manager.call(id)).json()).toEqual({ result: '1.2' });
    const [revision] = await revisionsOf(id);
    expect(revision).toMatchObject({ layer: expect.stringMatching(/^[0-9a-f]{64}$/) as string, build: null });
    const lock = await manager.send(`/functions/${id}/revisions/1/lock`);
    expect(lock.headers['content-type']).toBe('text/plain; charset=utf-8');
    expect(lock.text).toBe(`purepkg==1.2 \\\n    --hash=sha256:${WHEELS[0]!.sha256}\n`);

    const locked = await manager.send('/functions', {
      method: 'POST',
      ...form(
        { name: 'function_name', content: 'handle' },
        { name: 'python_file', content: TELLS_VERSION, filename: 'a.py' },
        { name: 'requirements_file', content: `${lock.text}# ${'x'.repeat(100_000)}\n`, filename: 'requirements.txt' },
      ),
    });
    expect(locked.status, locked.text).toBe(201);
    const { id: other } = locked.json() as { id: string };
    expect((await revisionsOf(other))[0]?.layer).toBe(revision?.layer);
    expect((await manager.call(other)).json()).toEqual({ result: '1.2' });
    for (const one of [id, other]) await manager.remove(one);
  });

  it('bring data files, what they need themselves, and console scripts', async () => {
    const code = `
import importlib.resources, subprocess
def handle(payload):
    files = importlib.resources.files("datapkg")
    deep = list((files / "sub" / "deep.bin").read_bytes())
    said = subprocess.run(["say-it"], capture_output=True, text=True)
    return [(files / "words.txt").read_text(encoding="utf-8").strip(), deep, said.stdout.strip(), said.stderr]
`;
    const { id } = await manager.add(code, { requirements: 'datapkg\ntoolpkg' });
    expect((await manager.call(id)).json()).toEqual({ result: ['ärger', [0, 255], 'tool of 1.2', ''] });
    await manager.remove(id);
  });

  it('may be named by the code itself, with the Pythons that it runs with (PEP 723)', async () => {
    const block = (python: string) =>
      `# /// script\n# requires-python = "${python}"\n# dependencies = [\n#   "purepkg<2",\n# ]\n# ///\n${TELLS_VERSION}`;
    const { id } = await manager.add(block('>=3.10'));
    expect((await manager.call(id)).json()).toEqual({ result: '1.2' });
    const refused = expectProblem(await revise(id, { code: block('<3.10') }), 422, 'requirements_not_installable');
    expect(refused.detail).toMatch(/^The code asks for Python <3\.10, and workers have 3\.\d+\.\d+\.$/);
    await manager.remove(id);
  });

  it('take the place of what the worker has of the same name', async () => {
    const { id } = await manager.add('import click\ndef handle(payload):\n    return click.VERSION\n', {
      requirements: 'click',
    });
    expect((await manager.call(id)).json()).toEqual({ result: '99.0' });
    await manager.remove(id);
  });

  it('stay as they are until a revision says otherwise', async () => {
    const { id } = await manager.add(TELLS_VERSION, { requirements: 'purepkg<2' });
    expect((await revise(id, { timeout_ms: 5_000 })).status).toBe(201);
    expect((await revise(id, { code: `${TELLS_VERSION}# changed\n` })).status).toBe(201);
    expect((await revise(id, { requirements: 'purepkg' })).status).toBe(201);
    expect((await manager.call(id)).json()).toEqual({ result: '2.0' });
    expect((await revise(id, { code: PLAIN, requirements: null })).status).toBe(201);
    const [none, two, code, settings, first] = await revisionsOf(id);
    expect([code?.layer, settings?.layer]).toEqual([first?.layer, first?.layer]);
    expect(two?.layer).not.toBe(first?.layer);
    expect(none).toMatchObject({ layer: null, serving: true });
    expect(none).not.toHaveProperty('requirements');
    expect((await manager.send(`/functions/${id}/revisions/5/lock`)).text).toBe('');
    const back = await manager.send(`/functions/${id}/rollback`, { method: 'POST', body: '{"revision": 1}' });
    expect(back.status, back.text).toBe(200);
    expect((await manager.call(id)).json()).toEqual({ result: '1.2' });
    await manager.remove(id);
  });

  it('are built while the former revision serves, and show how far they are', async () => {
    const { id } = await manager.add(PLAIN);
    index.add(wheel('latepkg'));
    index.hold();
    const revising = revise(id, {
      code: 'import latepkg\ndef handle(payload):\n    return 1\n',
      requirements: 'latepkg',
    });
    await vi.waitFor(
      async () => {
        const [newest] = await revisionsOf(id);
        expect(newest).toMatchObject({ revision: 2, status: 'pending', serving: false, build: { status: 'building' } });
        expect(newest?.build?.elapsed_ms).toBeGreaterThan(0);
      },
      { timeout: 20_000 },
    );
    expect((await manager.call(id)).json()).toEqual({ result: 'plain' });
    index.letGo();
    expect((await revising).json()).toMatchObject({ revision: 2, status: 'ready', serving: true, build: null });
    expect((await manager.call(id)).json()).toEqual({ result: 1 });
    await manager.remove(id);
  });

  it('of a first upload are built before there is a function, which comes though the client has left', async () => {
    index.add(wheel('firstpkg'));
    index.hold();
    const leaving = new AbortController();
    const body = { code: PLAIN, function_name: 'handle', name: 'first', requirements: 'firstpkg' };
    const uploading = manager.send('/functions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
      signal: leaving.signal,
    });
    await vi.waitFor(() => expect(index.asked).toContain('/simple/firstpkg/'), { timeout: 20_000 });
    expectProblem(await manager.send('/functions/first'), 404, 'function_not_found');
    leaving.abort();
    await expect(uploading).rejects.toThrow();
    index.letGo();
    await vi.waitFor(async () => expect((await manager.call('first')).json()).toEqual({ result: 'plain' }), {
      timeout: 20_000,
    });
    await manager.remove('first');
  });

  it('that can’t be had change nothing, and uv says why', async () => {
    const { id } = await manager.add(PLAIN);
    const unknown = expectProblem(
      await revise(id, { requirements: 'no-such-package' }),
      422,
      'requirements_not_installable',
    );
    expect(unknown.detail).toMatch(/No solution found[^]*no-such-package was not found/);
    const conflict = await revise(id, { requirements: 'needs-pure\nwants-two' });
    expect(expectProblem(conflict, 422, 'requirements_not_installable').detail).toMatch(/unsatisfiable/);
    const [second, first] = await revisionsOf(id);
    expect(second).toMatchObject({ status: 'failed', error: { code: 'requirements_not_installable' } });
    expect(first).toMatchObject({ status: 'failed', layer: null });
    expect((await manager.call(id)).json()).toEqual({ result: 'plain' });
    await manager.remove(id);
    await expect(manager.add(PLAIN, { requirements: 'no-such-package' })).rejects.toThrow(
      /requirements_not_installable/,
    );
  });

  it('are asked for with the index’s login, which nobody gets to see', async () => {
    expect(index.authorization).toBe(`Basic ${Buffer.from('reader:pA55w0rd').toString('base64')}`);
    index.mood = 'failing';
    const refused = await manager.send('/functions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ code: PLAIN, function_name: 'handle', requirements: 'purepkg==1.2' }),
    });
    index.mood = 'sound';
    expect(expectProblem(refused, 503, 'build_unavailable').detail).toMatch(/index can't be used/);
    expect(refused.text).not.toContain('pA55w0rd');
    expect(manager.log).not.toContain('pA55w0rd');
  });
});
