import { forbidden, Refusal } from '../rest/problems.js';
import { NAMESPACES, PODS, QUOTAS, type Resource, SERVICE_ACCOUNTS } from '../rest/resources.js';
import type { KubeObject } from '../store/objects.js';
import type { Store } from '../store/store.js';
import { type Fields, fields, list, text } from './fields.js';
import { podSecurityFault } from './pod-security.js';
import { quantity, quantityText } from './quantity.js';

export type Operation = 'CREATE' | 'UPDATE' | 'DELETE';

/** A validating webhook of a test. */
export interface Webhook {
  readonly name: string;
  readonly resource: string;
  readonly operations: readonly Operation[];
  readonly message: string;
}

/** What says no, or adds to an object, once it is known to be sound. */
export class Admission {
  readonly webhooks: Webhook[] = [];
  private readonly store: Store;

  constructor(store: Store) {
    this.store = store;
  }

  /** May change the object in place. */
  admit(operation: Operation, resource: Resource, object: KubeObject): void {
    if (resource === PODS && operation === 'CREATE') this.useServiceAccount(object);
    if (resource === PODS && operation === 'CREATE') this.secure(object);
    for (const { name, resource: plural, operations, message } of this.webhooks) {
      if (plural !== resource.plural || !operations.includes(operation)) continue;
      throw new Refusal(400, undefined, `admission webhook "${name}" denied the request: ${message}`);
    }
    if (resource === PODS && operation === 'CREATE') this.chargeQuota(object);
  }

  private secure(pod: KubeObject): void {
    const { namespace, name } = pod.metadata;
    const { runtimeClassName } = fields(pod.spec);
    // None is served here, so none is there.
    if (runtimeClassName !== undefined) {
      throw forbidden(PODS, name, `pod rejected: RuntimeClass ${JSON.stringify(runtimeClassName)} not found`);
    }
    const fault = podSecurityFault(this.store.get(NAMESPACES.key, undefined, namespace ?? ''), pod);
    if (fault !== undefined) throw forbidden(PODS, name, fault);
  }

  private useServiceAccount(pod: KubeObject): void {
    const spec = fields(pod.spec);
    const { namespace, name } = pod.metadata;
    const account = text(spec['serviceAccountName'] ?? 'default');
    const found = this.store.get(SERVICE_ACCOUNTS.key, namespace, account);
    if (found === undefined) {
      const why = `error looking up service account ${namespace}/${account}: serviceaccount "${account}" not found`;
      throw forbidden(PODS, name, why);
    }
    if ((spec['automountServiceAccountToken'] ?? found['automountServiceAccountToken']) === false) return;
    const token = {
      name: 'kube-api-access',
      mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
      readOnly: true,
    };
    const sources = [{ serviceAccountToken: { expirationSeconds: 3607, path: 'token' } }];
    spec['volumes'] = [...list(spec['volumes']), { name: token.name, projected: { sources, defaultMode: 420 } }];
    for (const container of list(spec['containers'])) {
      container['volumeMounts'] = [...list(container['volumeMounts']), token];
    }
  }

  private chargeQuota(pod: KubeObject): void {
    const { namespace, name } = pod.metadata;
    const others = this.store.list(PODS.key, namespace);
    for (const quota of this.store.list(QUOTAS.key, namespace)) {
      const used = quotaUse(quota, others);
      const limited = Object.entries(quotaLimits(quota)).flatMap(([resource, limit]) => {
        const requested = usage(pod, resource) ?? 0;
        const isOver = (used[resource] ?? 0) + requested > (quantity(limit) ?? 0);
        return requested > 0 && isOver ? [{ resource, requested, used: used[resource] ?? 0, limit }] : [];
      });
      if (limited.length === 0) continue;
      const each = (pick: (one: (typeof limited)[number]) => string) =>
        limited.map((one) => `${one.resource}=${pick(one)}`).join(',');
      const requested = each((one) => quantityText(one.requested));
      const use = each((one) => quantityText(one.used));
      const limits = each(({ limit }) => limit);
      const why = `exceeded quota: ${quota.metadata.name}, requested: ${requested}, used: ${use}, limited: ${limits}`;
      throw forbidden(PODS, name, why);
    }
  }
}

export function quotaLimits(quota: KubeObject): Record<string, string> {
  return fields(fields(quota.spec)['hard']) as Record<string, string>;
}

/** What these pods take of a quota, by its resources; those that pods don't take of are left out. */
export function quotaUse(quota: KubeObject, pods: readonly KubeObject[]): Record<string, number> {
  const counted = pods.filter((pod) => !isFinished(pod));
  return Object.fromEntries(
    Object.keys(quotaLimits(quota)).map((resource) => [
      resource,
      counted.reduce((sum, pod) => sum + (usage(pod, resource) ?? 0), 0),
    ]),
  );
}

/** What a pod takes of a quota's resource: `pods`, `requests.cpu`, `limits.memory`; undefined for others. */
export function usage(pod: KubeObject, resource: string): number | undefined {
  if (resource === 'pods') return 1;
  const match = /^(?:(requests|limits)\.)?(cpu|memory)$/.exec(resource);
  if (match === null) return undefined;
  const [, kind = 'requests', name = ''] = match;
  return list(fields(pod.spec)['containers']).reduce(
    (sum, container: Fields) => sum + (quantity(fields(fields(container['resources'])[kind])[name] ?? 0) ?? 0),
    0,
  );
}

export function isFinished(pod: KubeObject): boolean {
  const { phase } = fields(pod.status);
  return phase === 'Succeeded' || phase === 'Failed';
}
