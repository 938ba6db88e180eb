import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

interface Cruise {
  readonly modules: readonly {
    readonly source: string;
    readonly dependencies: readonly {
      readonly module: string;
      readonly resolved: string;
      readonly couldNotResolve: boolean;
    }[];
  }[];
  readonly summary: {
    readonly violations: readonly { readonly from: string; readonly rule: { readonly name: string } }[];
  };
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const program = join(root, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs');
const run = promisify(execFile);

/** What `npm run check -- imports` sees, as a value. */
async function cruise(folder: string): Promise<Cruise> {
  const args = [program, 'apps', 'libs', 'test', '--output-type', 'json'];
  const options = { cwd: folder, maxBuffer: 64 * 1024 * 1024 };
  const { stdout } = await run(process.execPath, args, options).catch((error: { stdout: string }) => error);
  return JSON.parse(stdout) as Cruise;
}

describe('The import rules', () => {
  it('see every module of this repository, and where each import leads', async () => {
    const { modules, summary } = await cruise(root);
    const ours = modules.filter(({ source }) => /^(apps|libs|test)\//.test(source));
    expect(ours.length).toBeGreaterThan(100);
    const imports = ours.flatMap(({ source, dependencies }) => dependencies.map((one) => ({ source, ...one })));
    const inside = imports.filter(({ module }) => module.startsWith('#libs/'));
    expect(inside.length).toBeGreaterThan(100);
    expect(inside.filter(({ resolved }) => !/^libs\/.*\.ts$/.test(resolved))).toEqual([]);
    expect(imports.filter(({ couldNotResolve }) => couldNotResolve)).toEqual([]);
    expect(summary.violations.map(({ from, rule }) => `${from}: ${rule.name}`)).toEqual([]);
  });
});

describe('Each import rule', () => {
  /** One file that breaks each rule, and what it must not import. */
  const BREACHES: Readonly<Record<string, readonly [file: string, imported: string]>> = {
    'no-cycles': ['libs/errors/one.ts', './two.js'],
    'libs-never-import-apps': ['libs/errors/up.ts', '../../apps/manager/src/health/lifecycle.js'],
    'providers-import-the-port-only': ['libs/orchestrator-docker/peer.ts', '#libs/orchestrator-process/provider.js'],
    'the-port-knows-no-provider': ['libs/orchestrator/down.ts', '#libs/orchestrator-docker/provider.js'],
    'dockerode-stays-in-its-provider': ['libs/orchestrator-process/docker.ts', 'dockerode'],
    'the-kubernetes-client-stays-in-its-provider': ['apps/manager/src/k8s.ts', '@kubernetes/client-node'],
    'only-the-orchestrator-module-names-providers': [
      'apps/manager/src/functions/provider.ts',
      '#libs/orchestrator-docker/provider.js',
    ],
    'gateway-and-reconciler-meet-in-the-row': ['apps/manager/src/gateway/loop.ts', '../reconciler/reconcile.loop.js'],
    'calls-and-steps-know-no-http': ['apps/manager/src/gateway/invoker.ts', 'node:http'],
    'functions-and-revisions-know-neither-plane': ['apps/manager/src/functions/plane.ts', '../health/lifecycle.js'],
    'apps-know-no-other-app': ['apps/cli/src/manager.ts', '../../manager/src/health/lifecycle.js'],
    'the-command-line-loads-little': ['apps/cli/src/heavy.ts', '#libs/errors/harmless.js'],
    'production-code-imports-no-tests': ['libs/errors/tested.ts', '#libs/orchestrator/testing/fake.js'],
  };
  const ALLOWED: Readonly<Record<string, readonly string[]>> = {
    'libs/errors/two.ts': ['./one.js'],
    'libs/errors/harmless.ts': [],
    'libs/orchestrator-docker/provider.ts': ['dockerode', '#libs/orchestrator/port.js'],
    'libs/orchestrator-process/provider.ts': ['#libs/orchestrator/port.js', '#libs/errors/harmless.js'],
    'libs/orchestrator-kubernetes/provider.ts': ['@kubernetes/client-node'],
    'libs/orchestrator/port.ts': ['#libs/errors/harmless.js'],
    'libs/orchestrator/testing/fake.ts': ['../port.js'],
    'libs/orchestrator/port.spec.ts': ['./testing/fake.js'],
    'apps/manager/src/health/lifecycle.ts': [],
    'apps/manager/src/functions/row.ts': ['#libs/errors/harmless.js'],
    'apps/manager/src/gateway/execution.http.ts': ['node:http'],
    'apps/manager/src/gateway/router.ts': ['../functions/row.js'],
    'apps/manager/src/reconciler/reconcile.loop.ts': ['../functions/row.js'],
    'apps/manager/src/orchestrator/orchestrator.module.ts': [
      '#libs/orchestrator-docker/provider.js',
      '../functions/row.js',
    ],
    'apps/cli/src/light.ts': ['#libs/config/version.js'],
    'libs/config/version.ts': [],
    'test/whole.spec.ts': ['#libs/orchestrator/testing/fake.js'],
  };
  let folder: string;
  let found: ReadonlyMap<string, readonly string[]>;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'faas-import-rules-'));
    for (const name of ['.dependency-cruiser.cjs', 'tsconfig.json', 'package.json']) {
      await copyFile(join(root, name), join(folder, name));
    }
    for (const name of ['dockerode', '@kubernetes/client-node']) {
      await mkdir(join(folder, 'node_modules', name), { recursive: true });
      await writeFile(join(folder, 'node_modules', name, 'index.js'), '');
    }
    const breaches = Object.values(BREACHES).map(([file, imported]) => [file, [imported]] as const);
    for (const [file, imports] of [...breaches, ...Object.entries(ALLOWED)]) {
      const path = join(folder, file);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, imports.map((one) => `import '${one}';\n`).join('') || 'export {};\n');
    }
    const { summary } = await cruise(folder);
    const froms = Map.groupBy(summary.violations, ({ rule }) => rule.name);
    found = new Map([...froms].map(([name, violations]) => [name, violations.map(({ from }) => from)]));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('has an example that breaks it', () => {
    const { forbidden } = createRequire(import.meta.url)('../../.dependency-cruiser.cjs') as {
      forbidden: readonly { name: string; severity: string }[];
    };
    expect(Object.keys(BREACHES).toSorted()).toEqual(forbidden.map(({ name }) => name).toSorted());
    expect(forbidden.every(({ severity }) => severity === 'error')).toBe(true);
  });

  it.each(Object.entries(BREACHES))('fires: %s', (name, [file]) => expect(found.get(name)).toContain(file));

  it('lets through what is allowed', () => {
    const files = new Set([...found.values()].flat());
    for (const file of Object.keys(ALLOWED)) if (file !== 'libs/errors/two.ts') expect(files).not.toContain(file);
  });
});
