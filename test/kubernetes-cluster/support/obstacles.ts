import type { KubernetesObject } from '@kubernetes/client-node';
import { expect, vi } from 'vitest';
import type { TestCluster } from './cluster.js';

/** Something of the namespace or the cluster that keeps workers from starting, until it is disposed of. */
export type Obstacle = AsyncDisposable;

export async function quota(cluster: TestCluster): Promise<Obstacle> {
  return put(cluster, {
    ...object('v1', 'ResourceQuota', { name: 'tight', namespace: cluster.namespace }),
    spec: { hard: { 'requests.cpu': '1m' } },
  });
}

export async function limitRange(cluster: TestCluster): Promise<Obstacle> {
  return put(cluster, {
    ...object('v1', 'LimitRange', { name: 'tight', namespace: cluster.namespace }),
    spec: { limits: [{ type: 'Container', max: { memory: '16Mi' } }] },
  });
}

/** The workers' account goes, and comes back. */
export async function noAccount({ core, namespace }: TestCluster): Promise<Obstacle> {
  await core.deleteNamespacedServiceAccount({ namespace, name: 'faas-worker' });
  return {
    [Symbol.asyncDispose]: async () => {
      await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'faas-worker' } } });
    },
  };
}

/** A policy of the cluster that refuses every object of one kind in this namespace. */
export async function policy(cluster: TestCluster, kind: 'pods' | 'deployments', message: string): Promise<Obstacle> {
  const name = `${cluster.namespace}-${kind}`;
  const rule = { apiGroups: ['*'], apiVersions: ['*'], operations: ['CREATE'], resources: [kind] };
  const group = 'admissionregistration.k8s.io/v1';
  const refusing = await put(cluster, {
    ...object(group, 'ValidatingAdmissionPolicy', { name }),
    spec: {
      failurePolicy: 'Fail',
      matchConstraints: { resourceRules: [rule] },
      validations: [{ expression: 'false', message }],
    },
  });
  const binding = await put(cluster, {
    ...object(group, 'ValidatingAdmissionPolicyBinding', { name }),
    spec: {
      policyName: name,
      validationActions: ['Deny'],
      matchResources: { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': cluster.namespace } } },
    },
  });
  // The API server takes a moment to learn of it, and to forget it.
  const learnt = { timeout: 30_000, interval: 250 };
  const undo = async () => {
    await binding[Symbol.asyncDispose]();
    await refusing[Symbol.asyncDispose]();
    await vi.waitFor(() => tries(cluster, kind), learnt);
  };
  try {
    await vi.waitFor(() => expect(tries(cluster, kind)).rejects.toThrow(message), learnt);
  } catch (error) {
    await undo();
    throw error;
  }
  return { [Symbol.asyncDispose]: undo };
}

async function tries({ objects, namespace }: TestCluster, kind: 'pods' | 'deployments'): Promise<unknown> {
  const metadata = { name: 'never', namespace };
  const template = {
    metadata: { labels: { app: 'never' } },
    spec: {
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'never',
          image: 'never',
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  };
  const tried =
    kind === 'pods'
      ? { ...object('v1', 'Pod', metadata), spec: template.spec }
      : {
          ...object('apps/v1', 'Deployment', metadata),
          spec: { selector: { matchLabels: { app: 'never' } }, template },
        };
  return objects.create(tried, undefined, 'All');
}

async function put({ objects }: TestCluster, wanted: KubernetesObject & { spec: unknown }): Promise<Obstacle> {
  const { apiVersion, kind, metadata } = wanted;
  await objects.create(wanted);
  return {
    [Symbol.asyncDispose]: async () => {
      await objects.delete({ apiVersion: apiVersion!, kind: kind!, metadata: { ...metadata, name: metadata!.name! } });
    },
  };
}

function object(apiVersion: string, kind: string, metadata: { name: string; namespace?: string }): KubernetesObject {
  return { apiVersion, kind, metadata };
}
