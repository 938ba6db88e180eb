import { isDeepStrictEqual } from 'node:util';
import { updated, type Writer } from './apply/ownership.js';
import type { Admission } from './rules/admission.js';
import { setDefaults } from './rules/defaults.js';
import { fields } from './rules/fields.js';
import { objectFaults } from './rules/object-rules.js';
import { alreadyExists, conflict, forbidden, invalid, notFound, Refusal } from './rest/problems.js';
import { NAMESPACES, PODS, type Resource, SERVICES } from './rest/resources.js';
import { clone, type KubeObject, type StoredObject, timestamp } from './store/objects.js';
import type { Store } from './store/store.js';

export interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: string;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
}

const SUFFIX_LETTERS = 'bcdfghjklmnpqrstvwxz2456789';

/** Objects and the rules they live by, whoever writes them. Synchronous, so that no write slips between two steps. */
export class Cluster {
  readonly store: Store;
  readonly admission: Admission;
  private readonly clusterAddress: () => string;

  /** @param clusterAddress gives every Service an address of its own */
  constructor(store: Store, admission: Admission, clusterAddress: () => string) {
    this.store = store;
    this.admission = admission;
    this.clusterAddress = clusterAddress;
  }

  get(resource: Resource, namespace: string | undefined, name: string): StoredObject {
    const found = this.store.get(resource.key, namespace, name);
    if (found === undefined) throw notFound(resource, name);
    return found;
  }

  create(resource: Resource, wanted: KubeObject, writer: Writer): StoredObject {
    const object = freshCopy(wanted, resource);
    const { metadata } = object;
    if (resource.namespaced) this.mustTake(resource, metadata.namespace, metadata.name);
    setDefaults(object);
    if (resource === SERVICES) this.giveAddress(object);
    this.admission.admit('CREATE', resource, object);
    const faults = objectFaults(object, undefined);
    if (faults.length > 0) throw invalid(resource, metadata.name ?? '', faults);
    if (this.store.get(resource.key, metadata.namespace, metadata.name) !== undefined) {
      throw alreadyExists(resource, metadata.name);
    }
    if (resource.generations) metadata.generation = 1;
    const owned =
      metadata.managedFields === undefined
        ? updated(undefined, object, writer).metadata.managedFields
        : metadata.managedFields;
    if (owned !== undefined) metadata.managedFields = owned;
    return this.store.create(resource.key, object);
  }

  /** @param writer undefined when the fields' owners have been settled, as by server-side apply */
  update(
    resource: Resource,
    wanted: KubeObject,
    previous: StoredObject,
    writer?: Writer,
    subresource?: string,
  ): StoredObject {
    refuseStale(resource, wanted, previous);
    let object = restored(wanted, previous, subresource === 'status');
    setDefaults(object);
    if (resource === SERVICES) keepAddress(object, previous);
    this.admission.admit('UPDATE', resource, object);
    const faults = objectFaults(object, previous);
    if (faults.length > 0) throw invalid(resource, previous.metadata.name, faults);
    if (writer !== undefined) object = updated(previous, object, writer);
    if (isSame(object, previous)) return previous;
    if (resource.generations && !isDeepStrictEqual(object.spec, previous.spec)) {
      object.metadata.generation = (previous.metadata.generation ?? 0) + 1;
    }
    const stored = this.store.replace(resource.key, object, previous);
    return this.removeIfDone(resource, stored);
  }

  /** For controllers: a status is theirs alone, so it has no manager here. */
  setStatus(resource: Resource, current: StoredObject, status: unknown): StoredObject {
    if (isDeepStrictEqual(JSON.parse(JSON.stringify(status)), current.status)) return current;
    return this.store.replace(resource.key, { ...current, status: JSON.parse(JSON.stringify(status)) }, current);
  }

  /** Answers the object, and whether it is gone already. */
  remove(resource: Resource, object: StoredObject, options: DeleteOptions): { object: StoredObject; gone: boolean } {
    refusePreconditions(resource, object, options);
    this.admission.admit('DELETE', resource, object);
    const finalizers = finalizersFor(object, options.propagationPolicy);
    const grace = resource === PODS ? graceOf(object, options) : 0;
    const isHeld = finalizers.length > 0 || grace > 0 || resource === NAMESPACES;
    if (!isHeld) return { object: this.store.remove(resource.key, object), gone: true };
    const { deletionTimestamp, deletionGracePeriodSeconds = Infinity } = object.metadata;
    const isNew = deletionTimestamp === undefined || grace < deletionGracePeriodSeconds;
    const next = clone(object);
    if (finalizers.length > 0) next.metadata.finalizers = finalizers;
    if (isNew) {
      next.metadata.deletionTimestamp = timestamp(new Date(Date.now() + grace * 1000));
      next.metadata.deletionGracePeriodSeconds = grace;
      if (resource.generations) next.metadata.generation = (object.metadata.generation ?? 0) + 1;
    }
    if (resource === NAMESPACES) next.status = { phase: 'Terminating' };
    if (isSame(next, object)) return { object, gone: false };
    return { object: this.store.replace(resource.key, next, object), gone: false };
  }

  /** The last step of a pod's end, and of whatever waited for its finalizers. */
  removeIfDone(resource: Resource, object: StoredObject): StoredObject {
    const { deletionTimestamp, deletionGracePeriodSeconds = 0, finalizers = [] } = object.metadata;
    const isHeld = finalizers.length > 0 || deletionGracePeriodSeconds > 0;
    if (deletionTimestamp === undefined || isHeld || resource === NAMESPACES) return object;
    return this.store.remove(resource.key, object);
  }

  /** An object goes into a namespace that is there and stays. */
  mustTake(resource: Resource, namespace: string | undefined, name: string): void {
    const found = this.store.get(NAMESPACES.key, undefined, namespace ?? '');
    if (found === undefined) throw notFound(NAMESPACES, namespace ?? '');
    if (found.metadata.deletionTimestamp === undefined) return;
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
    const refusal = forbidden(resource, name, why);
    const cause = {
      reason: 'NamespaceTerminating',
      message: `namespace ${namespace} is being terminated`,
      field: 'metadata.namespace',
    };
    throw new Refusal(403, 'Forbidden', refusal.message, { ...refusal.details, causes: [cause] });
  }

  private giveAddress(service: KubeObject): void {
    const spec = fields(service.spec);
    const isHeadless = spec['clusterIP'] === 'None';
    spec['clusterIP'] ??= this.clusterAddress();
    spec['clusterIPs'] ??= [spec['clusterIP']];
    if (isHeadless) delete spec['internalTrafficPolicy'];
    service.status = { loadBalancer: {} };
  }
}

/** What a client can't set is taken away. */
function freshCopy(wanted: KubeObject, { kind }: Resource): KubeObject {
  const object = clone(wanted);
  const { metadata } = object;
  for (const field of ['uid', 'resourceVersion', 'creationTimestamp', 'deletionTimestamp', 'generation'] as const) {
    delete metadata[field];
  }
  if (!metadata.name && metadata.generateName !== undefined) metadata.name = metadata.generateName + randomSuffix();
  if (['Pod', 'Deployment', 'ReplicaSet', 'HorizontalPodAutoscaler', 'Service', 'ResourceQuota'].includes(kind)) {
    object.status = {};
  }
  return object;
}

export function randomSuffix(length = 5): string {
  return Array.from({ length }, () => SUFFIX_LETTERS[Math.floor(Math.random() * SUFFIX_LETTERS.length)]).join('');
}

function refuseStale(resource: Resource, wanted: KubeObject, previous: StoredObject): void {
  const { resourceVersion, uid } = wanted.metadata;
  const { name } = previous.metadata;
  if (uid !== undefined && uid !== previous.metadata.uid) {
    const why = `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${previous.metadata.uid}`;
    throw conflict(resource, name, why);
  }
  if (resourceVersion === undefined || resourceVersion === previous.metadata.resourceVersion) return;
  const why = 'the object has been modified; please apply your changes to the latest version and try again';
  throw conflict(resource, name, why);
}

/** What an update can't change is put back. */
function restored(wanted: KubeObject, previous: StoredObject, statusOnly: boolean): KubeObject {
  const object = clone(statusOnly ? { ...previous, status: wanted.status } : wanted);
  const before = previous.metadata;
  const { generation, deletionTimestamp, deletionGracePeriodSeconds, generateName } = before;
  object.metadata = {
    ...object.metadata,
    uid: before.uid,
    creationTimestamp: before.creationTimestamp,
    resourceVersion: before.resourceVersion,
    ...(generation === undefined ? {} : { generation }),
    ...(generateName === undefined ? {} : { generateName }),
  };
  delete object.metadata.deletionTimestamp;
  delete object.metadata.deletionGracePeriodSeconds;
  if (deletionTimestamp !== undefined)
    Object.assign(object.metadata, { deletionTimestamp, deletionGracePeriodSeconds });
  if (!statusOnly && previous.status !== undefined) object.status = previous.status;
  return object;
}

function keepAddress(service: KubeObject, previous: StoredObject): void {
  const { clusterIP, clusterIPs } = fields(previous.spec);
  const spec = fields(service.spec);
  spec['clusterIP'] ??= clusterIP;
  spec['clusterIPs'] ??= clusterIPs;
}

function refusePreconditions(resource: Resource, object: StoredObject, { preconditions = {} }: DeleteOptions): void {
  const { name, uid, resourceVersion } = object.metadata;
  const refuse = (what: string, wanted: string, found: string) => {
    const why = `the ${what} in the precondition (${wanted}) does not match the ${what} in record (${found}). The object might have been ${what === 'UID' ? 'deleted and then recreated' : 'modified'}`;
    return conflict({ ...resource, plural: resource.kind }, name, why);
  };
  if (preconditions.uid !== undefined && preconditions.uid !== uid) throw refuse('UID', preconditions.uid, uid);
  if (preconditions.resourceVersion !== undefined && preconditions.resourceVersion !== resourceVersion) {
    throw refuse('ResourceVersion', preconditions.resourceVersion, resourceVersion);
  }
}

function finalizersFor(object: StoredObject, policy: string | undefined): string[] {
  const others = (object.metadata.finalizers ?? []).filter((one) => one !== 'orphan' && one !== 'foregroundDeletion');
  if (policy === 'Foreground') return [...others, 'foregroundDeletion'];
  if (policy === 'Orphan') return [...others, 'orphan'];
  return policy === 'Background' ? others : (object.metadata.finalizers ?? []);
}

/** In seconds. A pod that no node has is nobody's to end. */
function graceOf(pod: StoredObject, { gracePeriodSeconds }: DeleteOptions): number {
  const { nodeName, terminationGracePeriodSeconds } = fields(pod.spec);
  const { phase } = fields(pod.status);
  if (nodeName === undefined || phase === 'Succeeded' || phase === 'Failed') return 0;
  const grace = gracePeriodSeconds ?? Number(terminationGracePeriodSeconds ?? 30);
  return Math.min(grace, pod.metadata.deletionGracePeriodSeconds ?? Infinity);
}

function isSame(object: KubeObject, previous: KubeObject): boolean {
  const bare = (one: KubeObject) => ({ ...one, metadata: { ...one.metadata, resourceVersion: '' } });
  return isDeepStrictEqual(bare(object), bare(previous));
}
