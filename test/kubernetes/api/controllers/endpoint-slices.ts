import { isDeepStrictEqual } from 'node:util';
import { type Cluster, randomSuffix } from '../cluster.js';
import { isFinished } from '../rules/admission.js';
import { fields, list } from '../rules/fields.js';
import { ENDPOINT_SLICES, PODS, SERVICES } from '../rest/resources.js';
import { controllerReference, isControlledBy, isLeaving, type StoredObject } from '../store/objects.js';
import { matchesLabels } from '../store/selectors.js';
import type { Change } from '../store/store.js';
import { keyOf, Queue, splitKey } from './queue.js';
import { isReady, type Pod } from './types.js';

const MANAGER = { manager: 'kube-controller-manager' };
const MAX_ENDPOINTS = 100;

/** Writes for each Service with a selector where its pods are. */
export class EndpointSliceController {
  private readonly cluster: Cluster;
  private readonly queue = new Queue((key) => this.reconcile(key));

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  onChange({ resource, object, previous }: Change): void {
    if (resource === SERVICES.key) this.queue.add(keyOf(object));
    if (resource === ENDPOINT_SLICES.key) {
      const owner = object.metadata.ownerReferences?.find(({ controller }) => controller);
      if (owner?.kind === 'Service') this.queue.add(`${object.metadata.namespace}/${owner.name}`);
    }
    if (resource !== PODS.key) return;
    for (const service of this.cluster.store.list(SERVICES.key, object.metadata.namespace)) {
      const selects = [object, previous].some((pod) => pod !== undefined && isSelected(service, pod));
      if (selects) this.queue.add(keyOf(service));
    }
  }

  close(): void {
    this.queue.close();
  }

  private reconcile(key: string): void {
    const [namespace, name] = splitKey(key);
    const service = this.cluster.store.get(SERVICES.key, namespace, name);
    if (service === undefined || isLeaving(service) || fields(service.spec)['selector'] === undefined) return;
    const pods = (this.cluster.store.list(PODS.key, namespace) as Pod[]).filter(
      (pod) => isSelected(service, pod) && pod.status.podIP !== undefined && !isFinished(pod),
    );
    const endpoints = pods.map((pod) => endpointOf(pod));
    const ports = pods.length === 0 ? [] : portsOf(service, pods[0]!);
    const existing = this.cluster.store
      .list(ENDPOINT_SLICES.key, namespace)
      .filter((slice) => isControlledBy(slice, service) && !isLeaving(slice));
    const count = Math.max(1, Math.ceil(endpoints.length / MAX_ENDPOINTS));
    for (let index = 0; index < Math.max(count, existing.length); index += 1) {
      const part = endpoints.slice(index * MAX_ENDPOINTS, (index + 1) * MAX_ENDPOINTS);
      this.write(service, existing[index], index < count ? { endpoints: part, ports } : undefined);
    }
  }

  private write(service: StoredObject, slice: StoredObject | undefined, content: object | undefined): void {
    if (content === undefined) {
      if (slice !== undefined) this.cluster.remove(ENDPOINT_SLICES, slice, {});
      return;
    }
    const { name, namespace, labels } = service.metadata;
    const metadata = {
      name: slice?.metadata.name ?? `${name}-${randomSuffix()}`,
      namespace: namespace!,
      labels: {
        ...labels,
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
        'kubernetes.io/service-name': name,
      },
      ownerReferences: [controllerReference(service)],
    };
    const object = { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4', ...content };
    if (slice === undefined) {
      this.cluster.create(ENDPOINT_SLICES, { ...object, metadata: { ...metadata, generateName: `${name}-` } }, MANAGER);
      return;
    }
    const { endpoints, ports } = object as { endpoints?: unknown; ports?: unknown };
    const isSame =
      isDeepStrictEqual(slice['endpoints'], endpoints) &&
      isDeepStrictEqual(slice['ports'], ports) &&
      isDeepStrictEqual(slice.metadata.labels, metadata.labels);
    if (!isSame)
      this.cluster.update(ENDPOINT_SLICES, { ...object, metadata: { ...slice.metadata, ...metadata } }, slice, MANAGER);
  }
}

function isSelected(service: StoredObject, pod: StoredObject): boolean {
  const selector = fields(service.spec)['selector'] as Record<string, string> | undefined;
  return selector !== undefined && matchesLabels({ matchLabels: selector }, pod.metadata.labels);
}

/** A pod that leaves is not ready, whatever it says; `serving` is what it says. */
function endpointOf(pod: Pod) {
  const [serving, terminating] = [isReady(pod), isLeaving(pod)];
  const { namespace, name, uid } = pod.metadata;
  return {
    addresses: [pod.status.podIP],
    conditions: { ready: serving && !terminating, serving, terminating },
    targetRef: { kind: 'Pod', namespace, name, uid },
    nodeName: pod.spec.nodeName,
  };
}

function portsOf(service: StoredObject, pod: Pod) {
  return list(fields(service.spec)['ports']).flatMap(({ name, protocol, targetPort }) => {
    const port = portNumber(pod, targetPort);
    return port === undefined ? [] : [{ name: name ?? '', protocol, port }];
  });
}

/** A Service may name the port that the container names. */
export function portNumber(pod: Pod, target: unknown): number | undefined {
  if (typeof target === 'number') return target;
  const ports = pod.spec.containers.flatMap((container) => list(fields(container)['ports']));
  const found = ports.find(({ name }) => name === target);
  return found === undefined ? undefined : Number(found['containerPort']);
}
