import type { Cluster } from '../cluster.js';
import { type Resource, resourceOf } from '../rest/resources.js';
import { clone, isLeaving, type StoredObject } from '../store/objects.js';
import type { Change } from '../store/store.js';
import { Queue } from './queue.js';

const MANAGER = { manager: 'kube-controller-manager' };

/** Removes what has lost all of its owners, and lets an owner that goes in the foreground wait for its dependents. */
export class GarbageCollector {
  private readonly cluster: Cluster;
  private readonly queue = new Queue((uid) => this.look(uid));

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  onChange({ type, object }: Change): void {
    const { uid, ownerReferences = [] } = object.metadata;
    if (type === 'DELETED') {
      for (const dependent of this.dependentsOf(uid)) this.queue.add(dependent.metadata.uid);
      for (const owner of ownerReferences) this.queue.add(owner.uid);
      return;
    }
    if (ownerReferences.length > 0 || isLeaving(object)) this.queue.add(uid);
  }

  close(): void {
    this.queue.close();
  }

  private look(uid: string): void {
    const object = this.find(uid);
    if (object === undefined) return;
    if (object.metadata.finalizers?.includes('foregroundDeletion') === true && isLeaving(object))
      this.goForeground(object);
    else if (object.metadata.finalizers?.includes('orphan') === true && isLeaving(object)) this.goAlone(object);
    else if (!isLeaving(object) && this.isAbandoned(object)) this.remove(object, 'Background');
  }

  private isAbandoned({ metadata }: StoredObject): boolean {
    const { ownerReferences = [], namespace } = metadata;
    return (
      ownerReferences.length > 0 &&
      ownerReferences.every(({ apiVersion, kind, name, uid }) => {
        const resource = resourceOf(apiVersion, kind);
        if (resource === undefined) return false;
        const owner = this.cluster.store.get(resource.key, resource.namespaced ? namespace : undefined, name);
        return owner?.metadata.uid !== uid;
      })
    );
  }

  private goForeground(owner: StoredObject): void {
    const dependents = this.dependentsOf(owner.metadata.uid);
    for (const dependent of dependents) if (!isLeaving(dependent)) this.remove(dependent, 'Foreground');
    const blocks = (dependent: StoredObject) =>
      dependent.metadata.ownerReferences?.some(
        ({ uid, blockOwnerDeletion }) => uid === owner.metadata.uid && blockOwnerDeletion === true,
      ) === true;
    if (this.dependentsOf(owner.metadata.uid).some(blocks)) return;
    this.letGo(owner, 'foregroundDeletion');
  }

  private goAlone(owner: StoredObject): void {
    for (const dependent of this.dependentsOf(owner.metadata.uid)) {
      const freed = clone(dependent);
      const left = freed.metadata.ownerReferences?.filter(({ uid }) => uid !== owner.metadata.uid) ?? [];
      if (left.length > 0) freed.metadata.ownerReferences = left;
      else delete freed.metadata.ownerReferences;
      this.cluster.update(resourceFor(dependent), freed, dependent, MANAGER);
    }
    this.letGo(owner, 'orphan');
  }

  private letGo(object: StoredObject, finalizer: string): void {
    const current = this.find(object.metadata.uid);
    if (current === undefined) return;
    const next = clone(current);
    next.metadata.finalizers = (next.metadata.finalizers ?? []).filter((one) => one !== finalizer);
    if (next.metadata.finalizers.length === 0) delete next.metadata.finalizers;
    this.cluster.update(resourceFor(object), next, current, MANAGER);
  }

  private remove(object: StoredObject, propagationPolicy: string): void {
    this.cluster.remove(resourceFor(object), object, { propagationPolicy });
  }

  private dependentsOf(uid: string): StoredObject[] {
    return this.cluster.store
      .all()
      .filter(({ metadata }) => metadata.ownerReferences?.some((owner) => owner.uid === uid));
  }

  private find(uid: string): StoredObject | undefined {
    return this.cluster.store.all().find(({ metadata }) => metadata.uid === uid);
  }
}

function resourceFor({ apiVersion, kind }: StoredObject): Resource {
  const resource = resourceOf(apiVersion, kind);
  if (resource === undefined) throw new Error(`There is no resource of kind ${kind} in ${apiVersion}.`);
  return resource;
}
