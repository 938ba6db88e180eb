import type { FunctionDefaults, InvocationsConfig, ScaleConfig } from '#libs/config/config.js';
import { FUNCTION_DEFAULTS, INVOCATIONS_CONFIG, SCALE_CONFIG } from '#libs/config/config.module.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Inject, Injectable } from '@nestjs/common';
import type { Metadata } from '../functions/dto/metadata.dto.js';
import { callbackFault } from '../invocations/invocation-policy.js';
import { type FunctionSpec, type Resolved, resolveSpec, saidIn, type SpecPolicy } from './function-spec.js';

/** What this installation adds to the settings of uploads. */
@Injectable()
export class InstallationPolicy implements SpecPolicy {
  readonly defaults: FunctionSpec;

  constructor(
    @Inject(FUNCTION_DEFAULTS) private readonly config: FunctionDefaults,
    @Inject(SCALE_CONFIG) private readonly scale: Pick<ScaleConfig, 'memoryMiB' | 'maxReplicas' | 'maxClusterReplicas'>,
    private readonly orchestrator: Orchestrator,
    @Inject(INVOCATIONS_CONFIG) private readonly invocations: Pick<InvocationsConfig, 'callbacks'>,
  ) {
    this.defaults = {
      timeout_ms: config.timeoutMs,
      idle_timeout_ms: config.idleTimeoutMs,
      min_replicas: config.minReplicas,
      max_replicas: null,
      concurrency: config.concurrency,
      memory_mib: config.memoryMiB,
      cpu_millis: config.cpuMillis,
      env: {},
      secrets: {},
      requirements: null,
      handler_kind: 'auto',
    };
  }

  /** Replicas that a function may have which names no number of its own. */
  get mostReplicas(): number {
    const { maxClusterReplicas, maxReplicas } = this.scale;
    return this.orchestrator.capabilities.scalesItself ? maxClusterReplicas : maxReplicas;
  }

  /** What of a function's own can't be had here. */
  faultOf({ invocation_defaults: { callback_url: url } }: Pick<Metadata, 'invocation_defaults'>) {
    const field = 'invocation_defaults';
    const message = url && callbackFault(url, this.invocations.callbacks, `${field}.callback_url`);
    return message ? { field, message } : undefined;
  }

  /** All settings of an upload that names these. Throws {@link InvalidUpload}. */
  resolve(named: Partial<FunctionSpec>): Resolved {
    return { said: saidIn(named), spec: resolveSpec(named, this) };
  }

  /** The same without limits: what was allowed when a revision was made stays so. */
  readonly asMade = (named: Partial<FunctionSpec>): Resolved => {
    return { said: saidIn(named), spec: resolveSpec(named, { defaults: this.defaults, ceilings: () => ({}) }) };
  };

  readonly ceilings: SpecPolicy['ceilings'] = (memoryMiB) => {
    const { maxTimeoutMs, maxMemoryMiB, maxCpuMillis } = this.config;
    const all = this.scale.memoryMiB;
    const ofMachine = {
      min_replicas: {
        most: Math.max(1, Math.floor(all / memoryMiB)),
        why: `each may take ${memoryMiB} MiB, and all replicas of this machine together ${all} (REPLICAS_MEMORY_MIB).`,
      },
    };
    return {
      timeout_ms: { most: maxTimeoutMs },
      memory_mib: { most: maxMemoryMiB, why: 'this installation allows no more (MAX_MEMORY_MIB).' },
      cpu_millis: { most: maxCpuMillis, why: 'this installation allows no more (MAX_CPU_MILLIS).' },
      // Replicas that are kept count like those that calls ask for, unless the engine minds the memory itself.
      ...(!this.orchestrator.capabilities.scalesItself && ofMachine),
    };
  };
}
