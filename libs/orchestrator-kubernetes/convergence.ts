import type { KubernetesObject, V1Deployment, V1OwnerReference, V1Pod, V1Secret } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { ApiRefusal, isConflict, isMissing } from './api-fault.js';
import type { DeploymentEvents, Occurrence } from './deployment-events.js';
import type { Informer } from './informer.js';
import { AUTOSCALER, CONFIG_MAP, DEPLOYMENT, type Kind, POD, SECRET } from './kinds.js';
import { FIELD_MANAGER, type KubeApi } from './kube-api.js';
import { FAULT_ANNOTATION, FORMER_SECRETS_ANNOTATION, LABEL } from './labels.js';
import type { Manifests } from './manifests.js';
import { isEnded } from './replica.js';
import type { ClusterCache } from './cluster-cache.js';

/** An object has the name one of ours must have, and is somebody else's. */
export class NameTaken extends ApiRefusal {
  constructor(kind: Kind, name: string) {
    super(409, 'NameTaken', `the ${kind.kind} ${name} exists already and is not ours; it was left as it is`);
  }
}

/** Makes a function's objects as their manifests say, with no request for those that are so already. */
export class Convergence {
  /** Secrets that this manager has written, by function. */
  private readonly written = new Map<FunctionId, string>();

  constructor(
    private readonly api: KubeApi,
    private readonly cache: ClusterCache,
    private readonly owner: string,
    private readonly logger: Logger,
    private readonly events: Pick<DeploymentEvents, 'tell'>,
  ) {}

  /** Code and secrets before the Deployment that mounts them, where there is one on which secrets can hang; all others hang on the Deployment, so that one deletion takes all. */
  async apply(functionId: FunctionId, manifests: Manifests, signal: AbortSignal): Promise<V1Deployment> {
    const { cache } = this;
    const { code, secrets, deployment, service, autoscaler } = manifests;
    const known = cache.deployments.get(functionId, deployment.metadata?.name ?? '');
    const changed: string[] = [];
    const apply = async <T extends KubernetesObject>(informer: Informer<T>, manifest: T) =>
      this.applyOne(informer, manifest, signal, () => changed.push(`${informer.kind.kind} ${manifest.metadata?.name}`));
    await apply(cache.code, known === undefined ? code : ownedBy(code, known));
    if (known !== undefined) {
      await this.noteFormerSecrets(known, secrets, signal);
      // Another manager may have removed what this one wrote.
      const isReferenced = secretsOf(known).includes(secrets?.metadata?.name ?? '');
      await this.applySecrets(functionId, secrets, known, { isReferenced, signal });
    }
    const applied = await apply(cache.deployments, deployment);
    if (known === undefined) await this.applySecrets(functionId, secrets, applied, { isReferenced: false, signal });
    const rest: Promise<unknown>[] = [apply(cache.services, ownedBy(service, applied))];
    if (autoscaler !== undefined) rest.push(apply(cache.autoscalers, ownedBy(autoscaler, applied)));
    if (known === undefined) rest.push(apply(cache.code, ownedBy(code, applied)));
    await Promise.all(rest);
    if (changed.length > 0) this.events.tell(functionId, applied, applyOccurrence(known, applied, changed));
    return applied;
  }

  /** Sets the Deployment's replicas where the manager chooses them. A concurrent change by somebody else wins. */
  async scale(deployment: V1Deployment, wish: ScaleWish, signal: AbortSignal): Promise<V1Deployment> {
    const replicas = replicasToSet(deployment, wish);
    if (replicas === undefined) return deployment;
    const scaled = await this.patch(deployment, { spec: { replicas } }, signal);
    if (scaled !== deployment) {
      const functionId = deployment.metadata?.labels?.[LABEL.functionId] ?? '';
      this.events.tell(functionId, scaled, scaleOccurrence(deployment.spec?.replicas ?? 1, replicas, wish));
    }
    return scaled;
  }

  /** Writes a fault down in the Deployment's annotation; null: there is none any more. */
  async note(deployment: V1Deployment, fault: string | null, signal: AbortSignal): Promise<V1Deployment> {
    return this.patch(deployment, { metadata: { annotations: { [FAULT_ANNOTATION]: fault } } }, signal);
  }

  /**
   * Removes what a former workload needed and this one doesn't, an autoscaler and the code of replicas that are gone, and
   * pods that ended for good, which Kubernetes replaces and keeps.
   */
  async prune(
    functionId: FunctionId,
    manifests: Manifests,
    deployment: V1Deployment,
    signal: AbortSignal,
  ): Promise<void> {
    const { cache, api } = this;
    const pods = cache.pods.of(functionId);
    const inUse = new Set(pods.map((pod) => pod.metadata?.labels?.[LABEL.revision]));
    const codes = (isRolledOut(deployment) ? cache.code.of(functionId) : [])
      .filter(({ metadata }) => metadata?.name !== manifests.code.metadata?.name)
      .filter(({ metadata }) => !inUse.has(metadata?.labels?.[LABEL.revision]));
    const autoscalers = manifests.autoscaler === undefined ? cache.autoscalers.of(functionId) : [];
    const ended = pods.filter(({ metadata, status }) => isEnded(status) && metadata?.deletionTimestamp === undefined);
    const remove = (kind: Kind) => (object: KubernetesObject) =>
      api.delete(kind, object.metadata?.name ?? '', preconditions(object), signal).catch((error: unknown) => {
        // Another object has its name already.
        if (!isConflict(error)) throw error;
      });
    await Promise.all([
      ...codes.map(remove(CONFIG_MAP)),
      ...autoscalers.map(remove(AUTOSCALER)),
      ...ended.map(remove(POD)),
      this.pruneSecrets(deployment, pods, signal),
    ]);
  }

  /**
   * It hangs on the Deployment from the beginning, so that it never stays without one. Written without looking, since the
   * manager may read none: once, and again while the function lacks a replica, which may be for want of it.
   */
  private async applySecrets(
    functionId: FunctionId,
    secrets: V1Secret | undefined,
    deployment: V1Deployment,
    { isReferenced, signal }: { readonly isReferenced: boolean; readonly signal: AbortSignal },
  ): Promise<void> {
    const name = secrets?.metadata?.name ?? '';
    const { readyReplicas = 0, replicas = 0 } = deployment.status ?? {};
    if (secrets === undefined) this.written.delete(functionId);
    else if (!isReferenced || this.written.get(functionId) !== name || readyReplicas < replicas) {
      await this.api.apply(SECRET, ownedBy(secrets, deployment), signal);
      this.written.set(functionId, name);
    }
  }

  /** On the Deployment, so that whichever manager comes later removes it. */
  private async noteFormerSecrets(known: V1Deployment, secrets: V1Secret | undefined, signal: AbortSignal) {
    const wanted = secrets?.metadata?.name;
    const names = [...formerSecrets(known), ...secretsOf(known)].filter((name) => name !== wanted);
    const note = [...new Set(names)].join(',');
    if (note === formerSecrets(known).join(',')) return;
    // Whatever else has changed of it: what is not noted would stay as long as the function.
    const patch = { metadata: { annotations: { [FORMER_SECRETS_ANNOTATION]: note || null } } };
    const noted = await this.api.merge(DEPLOYMENT, known.metadata?.name ?? '', patch, signal);
    this.cache.deployments.learn(noted);
  }

  private async pruneSecrets(deployment: V1Deployment, pods: readonly V1Pod[], signal: AbortSignal): Promise<void> {
    const former = formerSecrets(deployment);
    const spec = deployment.metadata?.labels?.[LABEL.spec];
    const areGone = pods.every(({ metadata }) => metadata?.labels?.[LABEL.spec] === spec);
    if (former.length === 0 || !isRolledOut(deployment) || !areGone) return;
    await Promise.all(former.map((name) => this.api.delete(SECRET, name, {}, signal)));
    await this.patch(deployment, { metadata: { annotations: { [FORMER_SECRETS_ANNOTATION]: null } } }, signal);
  }

  /** For a function that is removed. */
  forget(functionId: FunctionId): void {
    this.written.delete(functionId);
  }

  private async applyOne<T extends KubernetesObject>(
    informer: Informer<T>,
    manifest: T,
    signal: AbortSignal,
    onChange: () => void,
  ): Promise<T> {
    const name = manifest.metadata?.name ?? '';
    const functionId = manifest.metadata?.labels?.[LABEL.functionId] ?? '';
    const known = informer.get(functionId, name);
    if (known !== undefined && covers(known, informer.kind === CONFIG_MAP ? withoutData(manifest) : manifest)) {
      return known;
    }
    if (known === undefined) await this.checkName(informer.kind, name, signal);
    const applied = await this.api.apply(informer.kind, manifest, signal);
    this.logger.debug({ functionId, kind: informer.kind.kind, name }, 'applied');
    informer.learn(informer.kind === CONFIG_MAP ? withoutData(applied) : applied);
    onChange();
    return applied;
  }

  private async checkName(kind: Kind, name: string, signal: AbortSignal): Promise<void> {
    const there = await this.api.find(kind, name, signal);
    if (there !== undefined && !this.isOurs(there)) throw new NameTaken(kind, name);
  }

  /** An object that lost its label is still recognised by its field manager. */
  private isOurs({ metadata }: KubernetesObject): boolean {
    const owner = metadata?.labels?.[LABEL.owner];
    if (owner !== undefined) return owner === this.owner;
    const managers = metadata?.managedFields ?? [];
    return managers.some(({ manager, operation }) => manager === FIELD_MANAGER && operation === 'Apply');
  }

  private async patch(deployment: V1Deployment, change: object, signal: AbortSignal): Promise<V1Deployment> {
    const { name = '', resourceVersion } = deployment.metadata ?? {};
    const metadata = { resourceVersion, ...(change as { metadata?: object }).metadata };
    try {
      const set = (await this.api.merge(DEPLOYMENT, name, { ...change, metadata }, signal)) as V1Deployment;
      this.cache.deployments.learn(set);
      return set;
    } catch (error) {
      if (isConflict(error) || isMissing(error)) return deployment;
      throw error;
    }
  }
}

function ownedBy<T extends KubernetesObject>(object: T, deployment: V1Deployment): T {
  const owner: V1OwnerReference = {
    apiVersion: DEPLOYMENT.apiVersion,
    kind: DEPLOYMENT.kind,
    name: deployment.metadata?.name ?? '',
    uid: deployment.metadata?.uid ?? '',
  };
  return { ...object, metadata: { ...object.metadata, ownerReferences: [owner] } };
}

/** Until then a replica of the former spec may be made again, on another node, and needs its code. */
function isRolledOut({ metadata, status }: V1Deployment): boolean {
  const isSeen = (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 0);
  return isSeen && (status?.replicas ?? 0) === (status?.updatedReplicas ?? 0);
}

function formerSecrets({ metadata }: V1Deployment): string[] {
  return (metadata?.annotations?.[FORMER_SECRETS_ANNOTATION] ?? '').split(',').filter((name) => name !== '');
}

/** The Secrets that a Deployment's pods are made with. */
function secretsOf({ spec }: V1Deployment): string[] {
  const { containers = [], volumes = [] } = spec?.template.spec ?? {};
  const variables = containers.flatMap(({ env = [] }) => env.map(({ valueFrom }) => valueFrom?.secretKeyRef?.name));
  return [...variables, ...volumes.map(({ secret }) => secret?.secretName)].filter((name) => name !== undefined);
}

/** What applying its objects meant for a function. */
function applyOccurrence(
  known: V1Deployment | undefined,
  { metadata }: V1Deployment,
  changed: readonly string[],
): Occurrence {
  if (known === undefined) return { change: 'Created', message: `Made ${[...new Set(changed)].join(', ')}` };
  if (known.metadata?.labels?.[LABEL.spec] !== metadata?.labels?.[LABEL.spec]) {
    return { change: 'RolledOut', message: 'The code, or what the pods are made from, has changed: replacing them' };
  }
  return { change: 'Restored', message: `Missing or not as wanted, and set again: ${changed.join(', ')}` };
}

function scaleOccurrence(from: number, to: number, { hopeless }: ScaleWish): Occurrence {
  const message = `Scaled from ${from} to ${to}${hopeless ? ', as the code can’t be loaded' : ''}`;
  return { change: to === 0 ? 'ScaledToZero' : from === 0 ? 'ScaledFromZero' : 'Scaled', message };
}

/** What is known of a ConfigMap: its content never changes. */
function withoutData<T extends KubernetesObject>({ metadata }: T): T {
  return { metadata } as T;
}

/** Only this very object, not one made anew under its name. */
function preconditions({ metadata }: KubernetesObject): object {
  return metadata?.uid === undefined ? {} : { preconditions: { uid: metadata.uid } };
}

/**
 * Whether an object on the cluster says all that a manifest says. What it says beyond that (defaults, status, others'
 * fields) doesn't matter; a list must have exactly the manifest's elements, each covering its own.
 */
export function covers(live: unknown, wanted: unknown): boolean {
  if (wanted === undefined) return true;
  if (Array.isArray(wanted)) {
    return Array.isArray(live) && live.length === wanted.length && wanted.every((one, at) => covers(live[at], one));
  }
  if (typeof wanted === 'object' && wanted !== null) {
    if (typeof live !== 'object' || live === null) return false;
    return Object.entries(wanted).every(([key, value]) => covers((live as Record<string, unknown>)[key], value));
  }
  return live === wanted;
}

export interface ScaleWish {
  readonly wanted: number;
  /** The autoscaler chooses, from `wanted` upwards. */
  readonly autoscaled: boolean;
  /** The code can't be loaded, and nothing else of the function serves. */
  readonly hopeless: boolean;
}

/** To how many replicas a Deployment must be set; undefined where its count is right, or another's to choose. */
export function replicasToSet(
  deployment: V1Deployment,
  { wanted, autoscaled, hopeless }: ScaleWish,
): number | undefined {
  const current = deployment.spec?.replicas ?? 1;
  if (hopeless || wanted === 0) return current === 0 ? undefined : 0;
  if (autoscaled) return current < wanted ? wanted : undefined;
  return current === wanted ? undefined : wanted;
}
