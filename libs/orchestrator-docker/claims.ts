import type { Workload } from '#libs/orchestrator/workload.js';
import type { DockerEngine } from './docker-engine.js';
import { LABEL, ownedBy, replicaLabels } from './labels.js';

const PREFIX = 'faas-claim-';
const CONTAINER_ID = /^[0-9a-f]{64}$/;

/** What a container from the pool was taken for. */
export interface Claimed {
  /** Empty, and so never the wanted one, when nobody has claimed it. */
  readonly spec: string;
  readonly revision?: string | undefined;
}

const UNCLAIMED: Claimed = { spec: '' };

/**
 * What a container from the pool serves. Its own labels were fixed when nobody knew, so they stand on a volume of its
 * name, which holds nothing else. Made before the function's row names it and never changed, so that every manager can tell
 * whether to adopt it.
 */
export class Claims {
  private readonly known = new Map<string, Claimed>();

  constructor(
    private readonly engine: DockerEngine,
    private readonly owner: string,
  ) {}

  async make(container: string, workload: Workload, spec: string, signal: AbortSignal): Promise<void> {
    const { [LABEL.owner]: owner, ...labels } = replicaLabels(this.owner, workload, spec);
    await this.engine.createVolume(PREFIX + container, { ...labels, [LABEL.claim]: owner ?? '' }, signal);
    this.known.set(container, { spec, revision: String(workload.revision) });
  }

  async of(container: string, signal: AbortSignal): Promise<Claimed> {
    const known = this.known.get(container);
    if (known !== undefined) return known;
    const labels = await this.engine.volumeLabels(PREFIX + container, signal);
    if (labels?.[LABEL.claim] !== this.owner) return UNCLAIMED;
    const claimed = { spec: labels[LABEL.spec] ?? '', revision: labels[LABEL.revision] };
    if (claimed.spec !== '') this.known.set(container, claimed);
    return claimed;
  }

  async drop(container: string, signal: AbortSignal): Promise<void> {
    this.known.delete(container);
    await this.engine.removeVolume(PREFIX + container, signal);
  }

  /**
   * Removes the claims on containers that are gone. A container is always older than its claim. An engine that is killed
   * while it makes a volume forgets the labels: such a claim is nobody's, and goes when no container has its name.
   */
  async sweep(signal: AbortSignal): Promise<void> {
    const claims = await this.engine.volumesNamed(PREFIX, signal);
    const containers = new Set((await this.engine.list(ownedBy(this.owner), signal)).map(({ Id }) => Id));
    for (const { name, labels } of claims) {
      const container = name.slice(PREFIX.length);
      if (containers.has(container)) continue;
      const claimant = labels[LABEL.claim];
      const isLeft = claimant === undefined ? await this.isGone(container, signal) : claimant === this.owner;
      if (isLeft) await this.drop(container, signal);
    }
    for (const known of this.known.keys()) if (!containers.has(known)) this.known.delete(known);
  }

  /** Whether no owner has such a container. */
  private async isGone(container: string, signal: AbortSignal): Promise<boolean> {
    if (!CONTAINER_ID.test(container)) return false;
    return (await this.engine.list([], signal, { id: [container] })).length === 0;
  }
}
