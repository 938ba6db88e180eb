import type { V1Pod } from '@kubernetes/client-node';
import { vi } from 'vitest';
import { kindOf } from '#libs/orchestrator/generic-worker.js';
import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { LABEL } from '#libs/orchestrator-kubernetes/labels.js';
import type { ClusterObjects } from './cluster-objects.js';

const FILL_MS = 60_000;

/** The pool of one installation, or of all in the namespace, as the cluster's administrator sees it. */
export class PoolView {
  constructor(
    private readonly cluster: ClusterObjects,
    private readonly owner?: string,
  ) {}

  /** All pods that were made for the pool and aren't leaving, whatever has become of them. */
  async all(): Promise<V1Pod[]> {
    const pods = (await this.cluster.ours(POD)) as V1Pod[];
    return pods.filter(
      ({ metadata }) =>
        metadata?.labels?.[LABEL.pool] !== undefined &&
        metadata.deletionTimestamp === undefined &&
        (this.owner === undefined || metadata.labels[LABEL.owner] === this.owner),
    );
  }

  /** Names of those that wait for a function. */
  async waiting(): Promise<string[]> {
    const kinds = (await this.all()).map(async (pod) => {
      const { podIP } = pod.status ?? {};
      const isNobodys = pod.metadata?.labels?.[LABEL.functionId] === undefined;
      if (!isNobodys || podIP === undefined) return [];
      const kind = await kindOf({ kind: 'tcp', host: podIP, port: 8000 }, false, 1_000);
      return kind === 'generic' ? [pod.metadata?.name ?? ''] : [];
    });
    return (await Promise.all(kinds)).flat().toSorted();
  }

  /** Names of the pool's pods that serve a function. */
  async of(functionId: string): Promise<string[]> {
    const pods = (await this.all()).filter(({ metadata }) => metadata?.labels?.[LABEL.functionId] === functionId);
    return pods.map(({ metadata }) => metadata?.name ?? '');
  }

  /** Waits until so many wait, besides these. */
  async filled(size: number, besides: readonly string[] = []): Promise<string[]> {
    return vi.waitFor(
      async () => {
        const fresh = (await this.waiting()).filter((name) => !besides.includes(name));
        if (fresh.length < size) throw new Error(`Of ${size} workers ${fresh.length} wait.`);
        return fresh;
      },
      { timeout: FILL_MS, interval: 100 },
    );
  }
}
