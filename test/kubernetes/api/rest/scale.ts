import { fields } from '../rules/fields.js';
import type { KubeObject, StoredObject } from '../store/objects.js';
import type { LabelSelector } from '../store/selectors.js';
import { badRequest } from './problems.js';

/** The `scale` of a Deployment or ReplicaSet. */
export function scaleOf({ metadata, spec, status }: StoredObject): KubeObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = metadata;
  const { matchLabels = {} } = fields(fields(spec)['selector']) as LabelSelector;
  const selector = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`);
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, ...(namespace === undefined ? {} : { namespace }), uid, resourceVersion, creationTimestamp },
    spec: { replicas: fields(spec)['replicas'] ?? 0 },
    status: { replicas: fields(status)['replicas'] ?? 0, selector: selector.toSorted().join(',') },
  };
}

/** The object with its scale set. */
export function scaled(object: StoredObject, scale: unknown): KubeObject {
  const { kind, spec, metadata } = scale as KubeObject;
  const replicas = fields(spec)['replicas'] ?? 0;
  if (kind !== 'Scale' || typeof replicas !== 'number') throw badRequest('the object provided is no Scale');
  const { resourceVersion: _, ...own } = object.metadata;
  const version = metadata.resourceVersion;
  return {
    ...object,
    metadata: { ...own, ...(version === undefined ? {} : { resourceVersion: version }) },
    spec: { ...fields(object.spec), replicas },
  };
}
