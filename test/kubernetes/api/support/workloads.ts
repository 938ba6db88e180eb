import { codeOf, deployment } from './manifests.js';
import { type Target, until } from './targets.js';

/** What the specs read of a pod. */
export interface PodView {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
    readonly ownerReferences?: readonly { readonly kind: string; readonly name: string }[];
  };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly conditions?: readonly ConditionView[];
    readonly containerStatuses?: readonly ContainerStatus[];
  };
}

export interface ConditionView {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

export interface ContainerStatus {
  readonly ready: boolean;
  readonly started: boolean;
  readonly restartCount: number;
  readonly containerID?: string;
  readonly state: StateView;
  readonly lastState: StateView;
}

interface StateView {
  readonly waiting?: { readonly reason: string; readonly message?: string };
  readonly running?: { readonly startedAt: string };
  readonly terminated?: {
    readonly exitCode: number;
    readonly reason: string;
    readonly message?: string;
    readonly finishedAt: string;
    readonly containerID: string;
  };
}

/** A Deployment of one function and what becomes of it. */
export class Workload {
  readonly target: Target;
  readonly name: string;

  constructor(target: Target, name: string) {
    this.target = target;
    this.name = name;
  }

  get path(): string {
    return `apps/v1/deployments/${this.name}`;
  }

  async create(source: string | undefined, container: object = {}, spec: object = {}, pod: object = {}): Promise<void> {
    const { admin } = this.target;
    if (source !== undefined) await admin.post('configmaps', codeOf(this.name, source));
    await this.apply(container, spec, pod);
  }

  async apply(container: object = {}, spec: object = {}, pod: object = {}): Promise<void> {
    const manifest = deployment(this.target, this.name, container, spec, pod);
    const { code, body } = await this.target.admin.apply(this.path, 'spec', manifest, true);
    if (code > 201) throw new Error(JSON.stringify(body));
  }

  async pods(): Promise<PodView[]> {
    const { body } = await this.target.admin.get(`pods?labelSelector=func%3D${this.name}`);
    return body.items as PodView[];
  }

  async staying(): Promise<PodView[]> {
    return (await this.pods()).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  }

  async sets(): Promise<{ metadata: { name: string }; spec: { replicas: number } }[]> {
    return (await this.target.admin.get(`apps/v1/replicasets?labelSelector=func%3D${this.name}`)).body.items;
  }

  async status(): Promise<{ readonly [field: string]: unknown; readonly conditions?: readonly ConditionView[] }> {
    return (await this.target.admin.get(this.path)).body.status;
  }

  condition(type: string, status: string): Promise<ConditionView> {
    return until(`${this.name} is ${type}=${status}`, async () =>
      (await this.status()).conditions?.find((one) => one.type === type && one.status === status),
    );
  }

  /** The pods, once there are exactly so many, all of the newest template and ready. */
  ready(count: number): Promise<PodView[]> {
    return until(
      `${this.name} has ${count} ready pods`,
      async () => {
        const { metadata, status, spec } = (await this.target.admin.get(this.path)).body;
        const isDone =
          status.observedGeneration === metadata.generation &&
          spec.replicas === count &&
          (status.replicas ?? 0) === count &&
          (status.updatedReplicas ?? 0) === count &&
          (status.availableReplicas ?? 0) === count;
        const pods = await this.pods();
        return isDone && pods.length === count ? pods : undefined;
      },
      60_000,
    );
  }

  /** The first container of the first pod, once it is as wanted. */
  container(what: string, is: (container: ContainerStatus) => boolean): Promise<ContainerStatus> {
    return until(`a container of ${this.name} ${what}`, async () =>
      (await this.pods()).flatMap(({ status }) => status.containerStatuses ?? []).find(is),
    );
  }

  async call(pod: PodView, payload: string): Promise<unknown> {
    const { body } = await this.target.admin.post(`pods/${pod.metadata.name}:8000/proxy/`, { payload });
    return body;
  }

  async remove(propagationPolicy = 'Foreground'): Promise<void> {
    await this.target.admin.delete(this.path, { propagationPolicy });
    await until(`${this.name} is gone`, async () => (await this.pods()).length === 0 || undefined);
  }
}
