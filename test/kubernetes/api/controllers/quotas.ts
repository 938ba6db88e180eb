import type { Cluster } from '../cluster.js';
import { quotaLimits, quotaUse } from '../rules/admission.js';
import { quantityText } from '../rules/quantity.js';
import { PODS, QUOTAS } from '../rest/resources.js';
import type { Change } from '../store/store.js';
import { Queue } from './queue.js';

/** Writes into each quota's status what is used of it. */
export class QuotaController {
  private readonly cluster: Cluster;
  private readonly queue = new Queue((namespace) => this.reconcile(namespace));

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  onChange({ resource, object }: Change): void {
    if (resource === QUOTAS.key || resource === PODS.key) this.queue.add(object.metadata.namespace ?? '');
  }

  close(): void {
    this.queue.close();
  }

  private reconcile(namespace: string): void {
    const pods = this.cluster.store.list(PODS.key, namespace);
    for (const quota of this.cluster.store.list(QUOTAS.key, namespace)) {
      const used = Object.entries(quotaUse(quota, pods)).map(([resource, value]) => [resource, quantityText(value)]);
      this.cluster.setStatus(QUOTAS, quota, { hard: quotaLimits(quota), used: Object.fromEntries(used) as object });
    }
  }
}
