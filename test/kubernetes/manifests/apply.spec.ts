import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { controlPlane, whyNoControlPlane } from '../control-plane/shared.js';

const run = promisify(execFile);
const NAMESPACES = ['faas-system', 'scadable-faas'];
const KINDS = 'deployments,statefulsets,services,hpa,pdb,ingresses,networkpolicies';
const GENERATION = '{.kind}/{.metadata.name} {.metadata.uid} {.metadata.generation}{"\\n"}';
/** Of a budget kubectl always sends the selector again, which changes nothing. */
const SAID_ANYWAY = /^poddisruptionbudget/;
const missing = whyNoControlPlane() ?? whyNoKubectl();

describe.skipIf(missing !== undefined)('kubectl apply -k', { timeout: 120_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'faas-apply-'));
  const kubeconfig = join(folder, 'config');
  const kubectl = async (...args: string[]) => {
    const { stdout } = await run('kubectl', ['--kubeconfig', kubeconfig, ...args], { timeout: 60_000 });
    return stdout;
  };
  const apply = async (overlay: string) =>
    (await kubectl('apply', '-k', `k8s/overlays/${overlay}`)).trim().split('\n').toSorted();
  const manager = (...args: string[]) => kubectl('-n', 'faas-system', ...args);
  const replicas = () => manager('get', 'deployment', 'faas-manager', '-o', 'jsonpath={.spec.replicas}');
  const generations = () => manager('get', KINDS, '-o', `jsonpath={range .items[*]}${GENERATION}{end}`);

  beforeAll(async () => {
    writeFileSync(kubeconfig, (await controlPlane()).kubeconfig, { mode: 0o600 });
    // No node has that name: what is made here runs nowhere.
    const nowhere = 'scheduler.alpha.kubernetes.io/node-selector=kubernetes.io/hostname=nowhere';
    for (const name of NAMESPACES) {
      await kubectl('create', 'namespace', name);
      await kubectl('annotate', 'namespace', name, nowhere);
    }
  });
  afterAll(async () => {
    await kubectl('delete', 'namespace', ...NAMESPACES, '--wait=false');
    await kubectl('delete', 'priorityclass', 'faas-pool');
    rmSync(folder, { recursive: true });
  });

  it.each(['dev', 'prod'])('of %s a second time changes nothing', async (overlay) => {
    await apply(overlay);
    const before = await generations();
    const said = (await apply(overlay)).filter((line) => !SAID_ANYWAY.test(line));
    expect(said.filter((line) => !line.endsWith(' unchanged'))).toEqual([]);
    expect(said.length).toBeGreaterThan(10);
    expect(await generations()).toBe(before);
  });

  it('from dev to prod and again leaves as many managers as there are', async () => {
    await apply('dev');
    await manager('scale', 'deployment', 'faas-manager', '--replicas=3');
    for (const overlay of ['dev', 'prod', 'prod']) {
      await apply(overlay);
      expect(await replicas(), overlay).toBe('3');
    }
  });
});

function whyNoKubectl(): string | undefined {
  if (spawnSync('kubectl', ['version', '--client']).status === 0) return undefined;
  process.stderr.write('skipped: kubectl is not there\n');
  return 'kubectl is not there';
}
