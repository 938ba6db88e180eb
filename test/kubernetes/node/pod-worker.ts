import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import {
  ApiException,
  PatchStrategy,
  setHeaderOptions,
  type V1Container,
  type V1Pod,
  type V1PodStatus,
} from '@kubernetes/client-node';
import { Container, type NodeSettings } from './container.js';
import { PodFiles } from './pod-files.js';
import { podStatus, seconds } from './pod-status.js';

const RETRY_MS = 200;

/** What pods of a namespace have of its claims, each a folder. */
export function claimsFolder({ folder }: Pick<NodeSettings, 'folder'>, namespace: string): string {
  return join(folder, 'claims', namespace);
}

/** One pod on this node, from its first container to its last. */
export class PodWorker {
  readonly containers: readonly Container[];
  /** One after the other, before all others. */
  private readonly first: readonly Container[];
  private readonly startTime = seconds(new Date());
  private readonly startNext: () => void;
  private status: V1PodStatus | undefined;
  private isReported = true;
  private reporting: Promise<void> | undefined;
  private ending: Promise<void> | undefined;
  private deadline: number | undefined;
  private isGone = false;

  constructor(
    private pod: V1Pod,
    private readonly address: string,
    private readonly node: NodeSettings,
  ) {
    const { uid = '', namespace = '' } = pod.metadata ?? {};
    const folders = { pod: join(node.folder, uid, 'volumes'), claims: claimsFolder(node, namespace) };
    const files = new PodFiles(node.core, pod, address, folders);
    const begun = new Set<Container>();
    const startNext = () => {
      this.report();
      const next = this.first.find((one) => !one.hasEndedWell);
      for (const one of next === undefined ? this.containers : [next]) {
        if (begun.has(one)) continue;
        begun.add(one);
        void one.start();
      }
    };
    const made = (specs: readonly V1Container[] = [], isFirst: boolean) =>
      specs.map(
        (spec) => new Container(pod, spec, address, files, node, isFirst ? startNext : () => this.report(), isFirst),
      );
    this.first = made(pod.spec?.initContainers, true);
    this.containers = made(pod.spec?.containers, false);
    this.startNext = startNext;
  }

  private get all(): readonly Container[] {
    return [...this.first, ...this.containers];
  }

  get name(): string {
    return this.pod.metadata?.name ?? '';
  }

  get namespace(): string {
    return this.pod.metadata?.namespace ?? '';
  }

  start(): void {
    this.startNext();
  }

  /** Its object has changed. */
  update(pod: V1Pod): void {
    this.pod = pod;
  }

  /** May be told again, with less time. */
  end(graceSeconds: number): void {
    const deadline = Date.now() + graceSeconds * 1000;
    if (this.deadline !== undefined && this.deadline <= deadline) return;
    this.deadline = deadline;
    const stopped = Promise.all(this.all.map((container) => container.stop(graceSeconds * 1000)));
    this.ending ??= stopped.then(() => this.finish());
  }

  /** Its object is gone, or the node goes: nothing is reported any more. */
  async abort(): Promise<void> {
    this.isGone = true;
    await Promise.all(this.all.map((container) => container.stop(0)));
    await this.removeFiles();
  }

  private async finish(): Promise<void> {
    await this.reporting;
    await this.removeFiles();
    // The node confirms that nothing runs any more: only now may the object go.
    const { name = '', namespace = '', uid } = this.pod.metadata ?? {};
    const body = { gracePeriodSeconds: 0, preconditions: { uid } };
    await this.persist(() => this.node.core.deleteNamespacedPod({ name, namespace, body }));
  }

  private removeFiles(): Promise<void> {
    return rm(join(this.node.folder, this.pod.metadata?.uid ?? ''), { recursive: true, force: true });
  }

  private report(): void {
    this.isReported = false;
    this.reporting ??= this.reportAll().finally(() => (this.reporting = undefined));
  }

  /** One after the other, and always the newest. */
  private async reportAll(): Promise<void> {
    const { name = '', namespace = '', uid } = this.pod.metadata ?? {};
    while (!this.isReported && !this.isGone) {
      this.isReported = true;
      const shown = (containers: readonly Container[]) => containers.map(({ view }) => view);
      const [views, first] = [shown(this.containers), shown(this.first)];
      const status = podStatus(this.pod, this.status, this.address, this.startTime, views, first);
      if (isDeepStrictEqual(status, this.status)) continue;
      this.status = status;
      const body = { metadata: { uid }, status };
      const merging = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
      await this.persist(() => this.node.core.patchNamespacedPodStatus({ name, namespace, body }, merging));
    }
  }

  /** Until the API server has taken it, or the pod isn't this one any more. */
  private async persist(write: () => Promise<unknown>): Promise<void> {
    while (!this.isGone) {
      try {
        await write();
        return;
      } catch (error) {
        if (isOfAnother(error)) return;
        await delay(RETRY_MS, undefined, { ref: false });
      }
    }
  }
}

function isOfAnother(error: unknown): boolean {
  if (!(error instanceof ApiException)) return false;
  return error.code === 404 || (error.code === 409 && /uid/i.test(String(error.body)));
}
