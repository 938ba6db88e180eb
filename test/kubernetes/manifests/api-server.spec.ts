import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import type { KubernetesObject } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { whyNoControlPlane } from '../control-plane/shared.js';
import { DryRun } from '../support/dry-run.js';
import { titleOf } from './objects.js';
import { parseObjects, render, renderOverlay, whyNoKustomize } from './rendering.js';

/** A kind that the cluster learns from the operator that brings it; Kubernetes itself doesn't know it. */
const FOREIGN = 'monitoring.coreos.com/v1';
const noCluster = whyNoControlPlane() !== undefined;

const files = readdirSync('k8s', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => join('k8s', name));

interface Kustomization {
  readonly resources?: readonly string[];
  readonly patches?: readonly { readonly path: string }[];
}

function kustomizationOf(folder: string): Kustomization {
  return parse(readFileSync(join(folder, 'kustomization.yaml'), 'utf8')) as Kustomization;
}

function isPatch(file: string): boolean {
  return (kustomizationOf(dirname(file)).patches ?? []).some(({ path }) => path === basename(file));
}

async function expectTaken(dryRun: DryRun, objects: readonly KubernetesObject[]): Promise<void> {
  for (const object of objects.filter(({ apiVersion }) => apiVersion !== FOREIGN)) {
    expect(await dryRun.refusalOf(object), titleOf(object)).toBeUndefined();
  }
}

const manifests = files.filter((file) => basename(file) !== 'kustomization.yaml');

describe('The manifests in k8s', () => {
  it.each(manifests)('%s is used by the kustomization beside it', (file) => {
    const { resources = [], patches = [] } = kustomizationOf(dirname(file));
    expect([...resources, ...patches.map(({ path }) => path)]).toContain(basename(file));
  });

  it('are read by older tools too: every kustomization names its version', () => {
    for (const file of files.filter((name) => !manifests.includes(name))) {
      expect(readFileSync(file, 'utf8'), relative('.', file)).toMatch(/^apiVersion: kustomize\.config\.k8s\.io\/v1/m);
    }
  });
});

describe.skipIf(noCluster)('The API server', () => {
  const dryRun = DryRun.on();

  it.each(manifests.filter((file) => !isPatch(file)))('takes %s, with no field beyond', async (file) => {
    const objects = parseObjects(readFileSync(file, 'utf8'));
    expect(objects.length).toBeGreaterThan(0);
    await expectTaken(dryRun, objects);
  });

  it('refuses a field that it does not know, and a kind', async () => {
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'one' } };
    expect(await dryRun.refusalOf({ ...object, dota: {} } as KubernetesObject)).toContain(
      '.dota: field not declared in schema',
    );
    expect(await dryRun.refusalOf({ ...object, kind: 'ConfigMop' })).toBe('There is no ConfigMop in v1.');
  });
});

describe.skipIf(noCluster || whyNoKustomize() !== undefined)('What kustomize renders', () => {
  const dryRun = DryRun.on();
  const components = ['components/workers-internet', 'components/functions-quota', 'components/service-monitor'];

  it.each([
    ['functions', () => render('functions'), 7],
    ['overlays/dev', () => render('overlays/dev'), 17],
    ['overlays/prod', () => render('overlays/prod'), 16],
    [
      'overlays/prod with every component',
      () => renderOverlay({ resources: ['overlays/prod'], components }),
      16 + components.length,
    ],
  ])('of %s is what the API server takes, each object once', async (_name, rendering, least) => {
    const objects = await rendering();
    expect(objects.length).toBeGreaterThanOrEqual(least);
    await expectTaken(dryRun, objects);
    expect(new Set(objects.map(titleOf)).size).toBe(objects.length);
  });

  it('can put the functions into a namespace of another name', async () => {
    const objects = await renderOverlay({ resources: ['functions'], namespace: 'elsewhere' });
    expect(objects.map(titleOf)).toContain('Namespace elsewhere');
    const ofNoNamespace = new Set(['Namespace', 'PriorityClass']);
    for (const object of objects.filter(({ kind = '' }) => !ofNoNamespace.has(kind))) {
      expect(object.metadata?.namespace, titleOf(object)).toBe('elsewhere');
    }
    const binding = objects.find(({ kind }) => kind === 'RoleBinding') as { subjects?: readonly object[] };
    expect(binding.subjects).toEqual([{ kind: 'ServiceAccount', name: 'faas-manager', namespace: 'faas-system' }]);
  });
});
