import { readFileSync } from 'node:fs';
import type { V1Role } from '@kubernetes/client-node';
import { beforeAll, describe, expect, it } from 'vitest';
import type { KubernetesObject } from '@kubernetes/client-node';
import { named, ofKind, podKinds } from './objects.js';
import { parseObjects, render, whyNoKustomize } from './rendering.js';

const WRITTEN = ['get', 'list', 'watch', 'create', 'patch', 'delete'];

describe('The manager’s Role', () => {
  const [role] = parseObjects(readFileSync('k8s/functions/role.yaml', 'utf8')) as [V1Role];

  it('names each resource once, with its verbs, and nothing by a wildcard', () => {
    const granted = (role.rules ?? []).flatMap(({ apiGroups = [], resources = [], verbs, ...rest }) => {
      expect(rest).toEqual({});
      return apiGroups.flatMap((group) => resources.map((resource) => [`${group}/${resource}`, verbs] as const));
    });
    expect(Object.fromEntries(granted)).toEqual({
      '/configmaps': WRITTEN,
      '/services': WRITTEN,
      '/secrets': ['create', 'patch', 'delete'],
      'apps/deployments': WRITTEN,
      'autoscaling/horizontalpodautoscalers': WRITTEN,
      '/pods': ['list', 'watch', 'create', 'patch', 'delete'],
      '/pods/log': ['get'],
      'discovery.k8s.io/endpointslices': ['list', 'watch'],
      '/events': ['create', 'patch'],
    });
    expect(new Set(granted.map(([name]) => name)).size).toBe(granted.length);
  });
});

describe.skipIf(whyNoKustomize() !== undefined).each(['overlays/dev', 'overlays/prod'])(
  'The rights in %s',
  (overlay) => {
    let objects: KubernetesObject[];

    beforeAll(async () => {
      objects = await render(overlay);
    });

    it('hold in no more than one namespace', () => {
      expect(objects.filter(({ kind }) => kind?.startsWith('Cluster'))).toEqual([]);
      expect(ofKind(objects, 'Role').map(({ metadata }) => metadata?.namespace)).toEqual(['scadable-faas']);
    });

    it('are the manager’s alone', () => {
      const bindings = ofKind(objects, 'RoleBinding');
      expect(bindings).toHaveLength(1);
      expect(bindings[0]).toMatchObject({
        metadata: { namespace: 'scadable-faas' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'faas-manager' },
        subjects: [{ kind: 'ServiceAccount', name: 'faas-manager', namespace: 'faas-system' }],
      });
    });

    it('reach no pod but the manager’s: no other is given a token', () => {
      const accounts = ofKind(objects, 'ServiceAccount');
      expect(accounts.map(({ metadata }) => `${metadata?.namespace}/${metadata?.name}`).toSorted()).toEqual([
        'faas-system/faas-manager',
        'scadable-faas/faas-worker',
      ]);
      expect(accounts.every((account) => account.automountServiceAccountToken === false)).toBe(true);
      for (const { title, template } of podKinds(objects)) {
        const isManager = title === 'Deployment faas-system/faas-manager';
        expect(template.spec?.automountServiceAccountToken, title).toBe(isManager);
        expect(template.spec?.serviceAccountName, title).toBe(isManager ? 'faas-manager' : undefined);
      }
    });

    it('are asked for in the namespace where they hold, as the account that is there', () => {
      const { data = {} } = named(objects, 'ConfigMap', 'faas-manager');
      expect(data['KUBERNETES_NAMESPACE']).toBe(ofKind(objects, 'Role')[0]?.metadata?.namespace);
      expect(
        named(objects, 'ServiceAccount', data['KUBERNETES_WORKER_SERVICE_ACCOUNT'] ?? '').metadata?.namespace,
      ).toBe(data['KUBERNETES_NAMESPACE']);
    });
  },
);
