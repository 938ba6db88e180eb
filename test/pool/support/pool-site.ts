import type { PoolConfig } from '#libs/config/config.js';
import type { ContractHarness } from '#libs/orchestrator/testing/contract.js';

export interface VictimPlan {
  readonly engine: 'docker' | 'kubernetes' | 'process';
  readonly config: unknown;
  readonly pool: PoolConfig;
}

/** A provider's engine as the tests of its warm pool look at it. */
export interface PoolSite {
  readonly harness: ContractHarness;
  /** Ids of an owner's workers that wait for a function. */
  waiting(owner: string): Promise<string[]>;
  /** Everything of an owner that runs or lies on the engine, in words for the reader. */
  remains(owner: string): Promise<string[]>;
  /** Which waiting worker a replica was, when it was one. */
  memberOf(replica: string): string;
  killWaiting(owner: string): Promise<void>;
  /** What a process of its own needs to be a manager on this engine. */
  readonly victim: VictimPlan;
}
