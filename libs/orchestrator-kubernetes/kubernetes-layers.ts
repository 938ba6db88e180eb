import { randomBytes } from 'node:crypto';
import type { V1ContainerState, V1Pod } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import type { KubernetesConfig, LayersConfig } from '#libs/config/config.js';
import { BuildCutOff, builtAt, type TcpAddress } from '#libs/orchestrator/build-exchange.js';
import { type OneTimeToken, oneTimeToken } from '#libs/orchestrator/generic-worker.js';
import {
  BuildFailed,
  type BuildRequest,
  type Built,
  type LayerEngine,
  tooMuchMemory,
} from '#libs/orchestrator/layers.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { ApiRefusal, ENGINE } from './api-fault.js';
import { BUILD_MARGIN_MS, buildPod } from './build-pod.js';
import type { ClusterCache } from './cluster-cache.js';
import { imageFault, moment, unscheduled } from './faults.js';
import { POD } from './kinds.js';
import type { KubeApi } from './kube-api.js';
import { buildsOf, isSweep } from './labels.js';
import { BUILDER, WORKER_PORT } from './names.js';
import { ownerOfPods } from './pool-pods.js';
import { isEnded } from './replica.js';
import { SWEEPER, sweepPod, youngMs } from './sweep-pod.js';

/** A node may have to pull the image. */
const START_MS = 55_000;
const CLEAN_MS = 20_000;
const LOOK_AGAIN_MS = 1_000;
/** Until the cluster shows why a pod has ended. */
const VERDICT_MS = 5_000;
/** Whoever waits for a pod that has ended has looked at it by then. */
const LOOKED_AT_MS = 10_000;
/** Without anything known to be in the claim in vain. */
const SWEEP_EVERY_MS = 24 * 3_600_000;
/** Moments are told in whole minutes. */
const AGAIN_MS = 60_000;
/** Pods of builds belong to no function. */
const NOBODY = '';

/** Builds layers in pods of their own. Workers fetch them, each for itself or into a claim that all share. */
export class KubernetesLayers implements LayerEngine {
  private readonly building = new Set<string>();
  /** Those that may lie in the claim. */
  private known: ReadonlySet<string> = new Set();
  private sweepsAt = 0;

  constructor(
    private readonly api: KubeApi,
    private readonly cache: ClusterCache,
    private readonly owner: string,
    private readonly config: KubernetesConfig,
    private readonly rules: LayersConfig,
    private readonly logger: Logger,
  ) {}

  /** What a node makes of the image's name is not known before one has it. */
  platform(): Promise<string> {
    const { nodeSelector = {} } = this.config.workerPods;
    return Promise.resolve(JSON.stringify([this.rules.image, nodeSelector]));
  }

  async build<T>(
    request: BuildRequest,
    onLine: (line: string) => void,
    keep: (built: Built) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const { rules } = this;
    const name = `faas-build-${randomBytes(8).toString('hex')}`;
    this.building.add(name);
    try {
      const token = oneTimeToken();
      const address = await this.start(name, token, signal);
      const hasEnded = () => stateOf(this.cache.pods.get(NOBODY, name))?.running === undefined;
      return await builtAt(address, token, { request, onLine, rules, hasEnded }, keep, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof BuildCutOff) throw await this.verdict(name, error);
      if (error instanceof ApiRefusal) {
        throw new BuildFailed('unavailable', `Kubernetes refuses the pod that builds: ${error.message}`);
      }
      throw error;
    } finally {
      // A sweep does it later where it can't be done now.
      await this.end(name).catch(() => undefined);
      this.building.delete(name);
    }
  }

  /** Removes pods whose manager has died, which end with it, or in their time, and what only the shared claim still has. */
  async sweep(kept: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const { items } = await this.api.list<V1Pod>(POD, buildsOf(this.owner), signal);
    const now = Date.now();
    for (const pod of items) {
      const { name = '', creationTimestamp } = pod.metadata ?? {};
      if (this.building.has(name)) continue;
      const finishedAt = stateOf(pod)?.terminated?.finishedAt;
      const age = now - moment(creationTimestamp).getTime();
      const isOver = isEnded(pod.status) && now - moment(finishedAt ?? creationTimestamp).getTime() > LOOKED_AT_MS;
      if (!isOver && age <= this.rules.timeoutMs + BUILD_MARGIN_MS) continue;
      if (isSweep(pod)) this.tellOf(pod);
      await this.end(name);
    }
    if (this.config.layersClaim !== undefined) await this.sweepClaim(kept, this.config.layersClaim, signal);
  }

  private async sweepClaim(kept: ReadonlySet<string>, claim: string, signal: AbortSignal): Promise<void> {
    const isGone = [...this.known].some((digest) => !kept.has(digest));
    const now = Date.now();
    if (isGone || now >= this.sweepsAt) {
      const { api, owner, config, rules } = this;
      const hangsOn = await ownerOfPods(api, signal);
      try {
        await api.apply(POD, sweepPod(kept, claim, { owner, config, rules }, hangsOn, now), signal);
      } catch (error) {
        if (!(error instanceof ApiRefusal)) throw error;
        const message = `the pod that removes packages from the claim ${claim}: ${error.message}`;
        throw new OrchestratorUnavailable(ENGINE, message, error, 'refused a request');
      }
      // What went just now was spared where somebody had used it lately.
      this.sweepsAt = now + (isGone ? youngMs(rules) + AGAIN_MS : SWEEP_EVERY_MS);
    }
    this.known = kept;
  }

  /** Of one that wasn't able to remove all, or that never ran: the claim would fill without a word. */
  private tellOf(pod: V1Pod): void {
    if (pod.status?.phase === 'Succeeded') return;
    const ended = stateOf(pod, SWEEPER)?.terminated;
    const reason = ended?.message?.trim() || ended?.reason || unscheduled(pod)?.message || pod.status?.reason;
    const claim = this.config.layersClaim;
    this.logger.warn({ pod: pod.metadata?.name, claim, reason }, 'packages could not be removed from the claim');
  }

  /** A pod that runs, and what lets it be given a job. */
  private async start(name: string, { sha256 }: OneTimeToken, signal: AbortSignal): Promise<TcpAddress> {
    await this.cache.current(signal);
    const { api, owner, config, rules } = this;
    const hangsOn = await ownerOfPods(api, signal);
    // Not aborted: nobody would know whether the pod was made.
    const making = AbortSignal.timeout(START_MS);
    this.cache.pods.learn(await api.apply(POD, buildPod(name, sha256, { owner, config, rules }, hangsOn), making));
    return this.addressOf(name, signal);
  }

  private async addressOf(name: string, signal: AbortSignal): Promise<TcpAddress> {
    const deadline = Date.now() + START_MS;
    for (;;) {
      const pod = this.cache.pods.get(NOBODY, name);
      const host = pod?.status?.podIP;
      if (pod === undefined || isEnded(pod.status)) throw new BuildCutOff('The pod that builds has ended.');
      if (host !== undefined && stateOf(pod)?.running !== undefined) return { kind: 'tcp', host, port: WORKER_PORT };
      const fault = imageFault(stateOf(pod)?.waiting);
      if (fault !== undefined) {
        throw new BuildFailed('unavailable', `The image ${this.rules.image} (BUILDER_IMAGE) can't be had: ${fault}`);
      }
      if (Date.now() > deadline) {
        const why = unscheduled(pod)?.message ?? stateOf(pod)?.waiting?.reason ?? 'the cluster does not say why';
        throw new BuildFailed('unavailable', `The pod that builds did not start within ${START_MS} ms: ${why}`);
      }
      await this.cache.change(NOBODY, LOOK_AGAIN_MS, signal);
    }
  }

  /** Why a build ended without a result, as far as the cluster tells. */
  private async verdict(name: string, { message }: BuildCutOff): Promise<BuildFailed> {
    const deadline = AbortSignal.timeout(VERDICT_MS);
    for (;;) {
      const pod = this.cache.pods.get(NOBODY, name);
      const ended = stateOf(pod)?.terminated;
      if (ended?.reason === 'OOMKilled') return tooMuchMemory(this.rules);
      const { reason, message: said } = pod?.status ?? {};
      if (reason !== undefined)
        return new BuildFailed('unavailable', `The pod that builds has ended: ${said ?? reason}`);
      if (ended !== undefined) {
        const status = `status ${ended.exitCode}`;
        return new BuildFailed('unavailable', `The build ended with ${status} and without a result.`);
      }
      if (pod === undefined || deadline.aborted) return new BuildFailed('unavailable', message);
      await this.cache.change(NOBODY, LOOK_AGAIN_MS, deadline).catch(() => undefined);
    }
  }

  private async end(name: string): Promise<void> {
    await this.api.delete(POD, name, { gracePeriodSeconds: 0 }, AbortSignal.timeout(CLEAN_MS));
  }
}

function stateOf(pod: V1Pod | undefined, container = BUILDER): V1ContainerState | undefined {
  return pod?.status?.containerStatuses?.find(({ name }) => name === container)?.state;
}
