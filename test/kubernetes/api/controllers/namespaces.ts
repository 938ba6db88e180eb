import type { Cluster } from '../cluster.js';
import { NAMESPACES, RESOURCES, SERVICE_ACCOUNTS } from '../rest/resources.js';
import { isLeaving } from '../store/objects.js';
import type { Change } from '../store/store.js';
import { Queue } from './queue.js';

const MANAGER = { manager: 'kube-controller-manager' };

/** Gives every namespace its `default` ServiceAccount, and empties those that are to go. */
export class NamespaceController {
  private readonly cluster: Cluster;
  private readonly queue = new Queue((name) => this.reconcile(name));

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  onChange({ resource, type, object }: Change): void {
    if (resource === NAMESPACES.key && type !== 'DELETED') this.queue.add(object.metadata.name);
    else if (type === 'DELETED' && object.metadata.namespace !== undefined) this.queue.add(object.metadata.namespace);
  }

  close(): void {
    this.queue.close();
  }

  private reconcile(name: string): void {
    const { store } = this.cluster;
    const namespace = store.get(NAMESPACES.key, undefined, name);
    if (namespace === undefined) return;
    if (!isLeaving(namespace)) {
      if (store.get(SERVICE_ACCOUNTS.key, name, 'default') !== undefined) return;
      const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace: name } };
      this.cluster.create(SERVICE_ACCOUNTS, account, MANAGER);
      return;
    }
    const content = RESOURCES.filter(({ namespaced }) => namespaced).flatMap((resource) =>
      store.list(resource.key, name).map((object) => ({ resource, object })),
    );
    for (const { resource, object } of content) {
      if (!isLeaving(object)) this.cluster.remove(resource, object, { propagationPolicy: 'Background' });
    }
    const isEmpty = RESOURCES.every(({ namespaced, key }) => !namespaced || store.list(key, name).length === 0);
    if (isEmpty) store.remove(NAMESPACES.key, namespace);
  }
}
