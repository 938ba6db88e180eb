import { randomUUID } from 'node:crypto';
import { type KubeObject, type StoredObject, timestamp } from './objects.js';

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  readonly resource: string;
  readonly object: StoredObject;
  readonly previous?: StoredObject;
}

/** The version asked for is no longer kept. */
export class Compacted extends Error {
  constructor(version: number, oldest: number) {
    super(`too old resource version: ${version} (${oldest})`);
  }
}

const KEPT_CHANGES = 20_000;

/**
 * Objects by resource (`deployments.apps`), namespace and name, with one version counter and a history, as etcd keeps
 * them. Everything is synchronous, so that what reads and then writes without waiting can't be overtaken. What it hands
 * out is frozen in spirit: whoever changes an object clones it first.
 */
export class Store {
  private version = 1000;
  private oldest = 1000;
  private readonly resources = new Map<string, Map<string, StoredObject>>();
  private history: Change[] = [];
  private readonly listeners = new Set<(change: Change) => void>();

  get currentVersion(): number {
    return this.version;
  }

  get(resource: string, namespace: string | undefined, name: string): StoredObject | undefined {
    return this.resources.get(resource)?.get(`${namespace ?? ''}/${name}`);
  }

  /** In no order. */
  list(resource: string, namespace?: string): StoredObject[] {
    const objects = [...(this.resources.get(resource)?.values() ?? [])];
    return namespace === undefined ? objects : objects.filter(({ metadata }) => metadata.namespace === namespace);
  }

  all(): StoredObject[] {
    return [...this.resources.values()].flatMap((objects) => [...objects.values()]);
  }

  create(resource: string, object: KubeObject): StoredObject {
    const stored = this.stamp(object, { uid: randomUUID(), creationTimestamp: timestamp() });
    this.write(resource, stored);
    this.record({ type: 'ADDED', version: this.version, resource, object: stored });
    return stored;
  }

  replace(resource: string, object: KubeObject, previous: StoredObject): StoredObject {
    const { uid, creationTimestamp } = previous.metadata;
    const stored = this.stamp(object, { uid, creationTimestamp });
    this.write(resource, stored);
    this.record({ type: 'MODIFIED', version: this.version, resource, object: stored, previous });
    return stored;
  }

  remove(resource: string, previous: StoredObject): StoredObject {
    const { uid, creationTimestamp, namespace, name } = previous.metadata;
    const last = this.stamp(previous, { uid, creationTimestamp });
    this.resources.get(resource)?.delete(`${namespace ?? ''}/${name}`);
    this.record({ type: 'DELETED', version: this.version, resource, object: last, previous });
    return last;
  }

  /** What happened after a version. */
  changesSince(version: number): Change[] {
    if (version < this.oldest) throw new Compacted(version, this.oldest);
    return this.history.filter((change) => change.version > version);
  }

  onChange(listener: (change: Change) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Forgets the history, so that older versions answer 410 from now on. */
  compact(): void {
    this.version += 1;
    this.oldest = this.version;
    this.history = [];
  }

  private stamp(object: KubeObject, own: { uid: string; creationTimestamp: string }): StoredObject {
    this.version += 1;
    return { ...object, metadata: { ...object.metadata, ...own, resourceVersion: String(this.version) } };
  }

  private write(resource: string, object: StoredObject): void {
    const { namespace, name } = object.metadata;
    let all = this.resources.get(resource);
    if (all === undefined) this.resources.set(resource, (all = new Map()));
    all.set(`${namespace ?? ''}/${name}`, object);
  }

  private record(change: Change): void {
    this.history.push(change);
    if (this.history.length > KEPT_CHANGES) {
      this.history = this.history.slice(-KEPT_CHANGES / 2);
      this.oldest = (this.history[0]?.version ?? this.version) - 1;
    }
    for (const listener of this.listeners) listener(change);
  }
}
