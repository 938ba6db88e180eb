import type {
  KubernetesObject,
  V1ConfigMap,
  V1Container,
  V1Deployment,
  V1Ingress,
  V1LabelSelector,
  V1Namespace,
  V1NetworkPolicy,
  V1PodDisruptionBudget,
  V1PodTemplateSpec,
  V1Role,
  V1RoleBinding,
  V1Service,
  V1ServiceAccount,
  V1StatefulSet,
  V2HorizontalPodAutoscaler,
} from '@kubernetes/client-node';

interface Kinds {
  ConfigMap: V1ConfigMap;
  Deployment: V1Deployment;
  HorizontalPodAutoscaler: V2HorizontalPodAutoscaler;
  Ingress: V1Ingress;
  Namespace: V1Namespace;
  NetworkPolicy: V1NetworkPolicy;
  PodDisruptionBudget: V1PodDisruptionBudget;
  Role: V1Role;
  RoleBinding: V1RoleBinding;
  Service: V1Service;
  ServiceAccount: V1ServiceAccount;
  StatefulSet: V1StatefulSet;
}

export function ofKind<Kind extends keyof Kinds>(objects: readonly KubernetesObject[], kind: Kind): Kinds[Kind][] {
  return objects.filter((object) => object.kind === kind) as Kinds[Kind][];
}

/** The one object of this kind and name; generated names count without the hash at their end. */
export function named<Kind extends keyof Kinds>(
  objects: readonly KubernetesObject[],
  kind: Kind,
  name: string,
): Kinds[Kind] {
  const exact = new RegExp(`^${name}(-[a-z0-9]{10})?$`);
  const found = ofKind(objects, kind).filter((object) => exact.test(object.metadata?.name ?? ''));
  if (found.length !== 1) throw new Error(`${found.length} objects of kind ${kind} are named ${name}.`);
  return found[0] as Kinds[Kind];
}

export function titleOf({ kind, metadata }: KubernetesObject): string {
  return `${kind} ${metadata?.namespace === undefined ? '' : `${metadata.namespace}/`}${metadata?.name}`;
}

export interface PodKind {
  readonly title: string;
  readonly namespace: string;
  readonly template: V1PodTemplateSpec;
}

/** The kinds of pods that these objects bring about. */
export function podKinds(objects: readonly KubernetesObject[]): PodKind[] {
  return [...ofKind(objects, 'Deployment'), ...ofKind(objects, 'StatefulSet')].map((owner) => ({
    title: titleOf(owner as KubernetesObject),
    namespace: owner.metadata?.namespace ?? 'default',
    template: owner.spec!.template,
  }));
}

export function containersOf({ spec }: V1PodTemplateSpec): V1Container[] {
  return [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
}

/** Whether a selector selects something with these labels; an empty one selects everything. */
export function selects(selector: V1LabelSelector | undefined, labels: Readonly<Record<string, string>>): boolean {
  if (selector?.matchExpressions !== undefined) throw new Error('matchExpressions are not looked at here.');
  return Object.entries(selector?.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
}
