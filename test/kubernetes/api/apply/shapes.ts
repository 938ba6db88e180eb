import { fieldsOf } from '../../schema/kinds.js';

/**
 * How lists and objects of the published schema are merged: its `x-kubernetes-list-type`, `-list-map-keys` and
 * `-map-type`, which neither of the generated packages carries along. `shapes.spec.ts` compares this with a cluster.
 */
export const LIST_MAP_KEYS: Readonly<Record<string, readonly string[]>> = {
  'V1Container.env': ['name'],
  'V1Container.ports': ['containerPort', 'protocol'],
  'V1Container.volumeDevices': ['devicePath'],
  'V1Container.volumeMounts': ['mountPath'],
  'V1ContainerStatus.allocatedResourcesStatus': ['name'],
  'V1ContainerStatus.volumeMounts': ['mountPath'],
  'V1DeploymentStatus.conditions': ['type'],
  'V1EphemeralContainer.env': ['name'],
  'V1EphemeralContainer.ports': ['containerPort', 'protocol'],
  'V1EphemeralContainer.volumeDevices': ['devicePath'],
  'V1EphemeralContainer.volumeMounts': ['mountPath'],
  'V1NamespaceStatus.conditions': ['type'],
  'V1ObjectMeta.ownerReferences': ['uid'],
  'V1PodSpec.containers': ['name'],
  'V1PodSpec.ephemeralContainers': ['name'],
  'V1PodSpec.hostAliases': ['ip'],
  'V1PodSpec.imagePullSecrets': ['name'],
  'V1PodSpec.initContainers': ['name'],
  'V1PodSpec.resourceClaims': ['name'],
  'V1PodSpec.schedulingGates': ['name'],
  'V1PodSpec.topologySpreadConstraints': ['topologyKey', 'whenUnsatisfiable'],
  'V1PodSpec.volumes': ['name'],
  'V1PodStatus.conditions': ['type'],
  'V1PodStatus.podIPs': ['ip'],
  'V1PodStatus.resourceClaimStatuses': ['name'],
  'V1ReplicaSetStatus.conditions': ['type'],
  'V1ResourceRequirements.claims': ['name'],
  'V1ResourceStatus.resources': ['resourceID'],
  'V1ServiceAccount.secrets': ['name'],
  'V1ServiceSpec.ports': ['port', 'protocol'],
  'V1ServiceStatus.conditions': ['type'],
  'V2HorizontalPodAutoscalerStatus.conditions': ['type'],
};

export const LIST_SETS: ReadonlySet<string> = new Set([
  'V1ContainerRestartRuleOnExitCodes.values',
  'V1Endpoint.addresses',
  'V1NodeAllocatableResourceClaimStatus.containers',
  'V1ObjectMeta.finalizers',
]);

/** Objects that are replaced as a whole. */
export const ATOMIC_TYPES: ReadonlySet<string> = new Set([
  'DiscoveryV1EndpointPort',
  'V1ConfigMapKeySelector',
  'V1FileKeySelector',
  'V1LabelSelector',
  'V1LocalObjectReference',
  'V1NodeSelector',
  'V1NodeSelectorTerm',
  'V1ObjectFieldSelector',
  'V1ObjectReference',
  'V1OwnerReference',
  'V1ResourceFieldSelector',
  'V1ScopeSelector',
  'V1SecretKeySelector',
  'V1TypedLocalObjectReference',
]);

export const ATOMIC_MAPS: ReadonlySet<string> = new Set(['V1PodSpec.nodeSelector', 'V1ServiceSpec.selector']);

const KEY_DEFAULTS: Readonly<Record<string, string>> = { protocol: 'TCP' };

/** A place in an object and how what stands there is merged. */
export interface Shape {
  readonly type: string;
  /** The keys of a list's items; `granular`: field by field. */
  readonly merge: 'atomic' | 'granular' | 'set' | readonly string[];
}

export function rootShape(typeName: string): Shape {
  return { type: typeName, merge: 'granular' };
}

/** Undefined for a field that the schema doesn't have. */
export function fieldShape(shape: Shape, field: string): Shape | undefined {
  const entry = /^\{ \[key: string\]: (.*); \}$/.exec(shape.type)?.[1];
  if (entry !== undefined) return { type: entry, merge: mergeOf(entry, '') };
  const type = fieldsOf(shape.type)?.find(({ baseName }) => baseName === field)?.type;
  return type === undefined ? undefined : { type, merge: mergeOf(type, `${shape.type}.${field}`) };
}

export function itemShape(shape: Shape): Shape {
  const type = /^Array<(.*)>$/.exec(shape.type)?.[1] ?? 'any';
  return { type, merge: mergeOf(type, '') };
}

function mergeOf(type: string, place: string): Shape['merge'] {
  const isList = type.startsWith('Array<');
  if (isList) return LIST_MAP_KEYS[place] ?? (LIST_SETS.has(place) ? 'set' : 'atomic');
  const isMap = type.startsWith('{ [key: string]');
  if (isMap) return ATOMIC_MAPS.has(place) ? 'atomic' : 'granular';
  return fieldsOf(type) === undefined || ATOMIC_TYPES.has(type) ? 'atomic' : 'granular';
}

/** The element that identifies an item in field sets: `k:{"name":"worker"}`. */
export function itemElement(item: unknown, keys: readonly string[]): string {
  const fields = item as Readonly<Record<string, unknown>>;
  const key = Object.fromEntries(keys.toSorted().map((name) => [name, fields[name] ?? KEY_DEFAULTS[name] ?? null]));
  return `k:${JSON.stringify(key)}`;
}
