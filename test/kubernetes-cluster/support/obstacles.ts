import type { KubernetesObject } from '@kubernetes/client-node';
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
