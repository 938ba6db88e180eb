import type { KubernetesObject } from '@kubernetes/client-node';
import { expect, vi } from 'vitest';
import type { ClusterObjects } from './cluster-objects.js';

const GROUP = 'admissionregistration.k8s.io/v1';
/** The API server takes a moment to learn of a policy, and to forget it. */
const LEARNT = { timeout: 30_000, interval: 100 };

/** What a policy refuses: `plural` as in `deployments`. */
export interface Refused {
  readonly plural: string;
  readonly operation?: 'CREATE' | 'UPDATE' | 'DELETE';
}

/** A policy of the cluster that refuses one kind of change in this namespace, until it is disposed of. */
export async function policy(
  cluster: ClusterObjects,
  { plural, operation = 'CREATE' }: Refused,
  message: string,
): Promise<AsyncDisposable> {
  const { objects, namespace } = cluster;
  const name = `${namespace}-${plural}-${operation.toLowerCase()}`;
  const rule = (resource: string, of: string) => ({
    apiGroups: ['*'],
    apiVersions: ['*'],
    operations: [of],
    resources: [resource],
  });
  const isProbe = `request.resource.resource == "configmaps" && request.operation == "CREATE" && object.metadata.name == "${name}"`;
  const isRefused = `request.resource.resource == "${plural}" && request.operation == "${operation}"`;
  const made: KubernetesObject[] = [
    {
      ...object('ValidatingAdmissionPolicy', name),
      spec: {
        failurePolicy: 'Fail',
        matchConstraints: { resourceRules: [rule(plural, operation), rule('configmaps', 'CREATE')] },
        validations: [{ expression: `!(${isProbe}) && !(${isRefused})`, message }],
      },
    } as KubernetesObject,
    {
      ...object('ValidatingAdmissionPolicyBinding', name),
      spec: {
        policyName: name,
        validationActions: ['Deny'],
        matchResources: { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': namespace } } },
      },
    } as KubernetesObject,
  ];
  const probe = () =>
    objects.create({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace } }, undefined, 'All');
  const undo = async () => {
    for (const { apiVersion, kind, metadata } of made.toReversed()) {
      await objects.delete({ apiVersion: apiVersion!, kind: kind!, metadata: { name: metadata!.name! } });
    }
    await vi.waitFor(probe, LEARNT);
  };
  for (const one of made) await objects.create(one);
  try {
    await vi.waitFor(() => expect(probe()).rejects.toThrow(message), LEARNT);
  } catch (error) {
    await undo();
    throw error;
  }
  return { [Symbol.asyncDispose]: undo };
}

function object(kind: string, name: string): KubernetesObject {
  return { apiVersion: GROUP, kind, metadata: { name } };
}
