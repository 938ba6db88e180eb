/** The state of a pool of generic workers, and how often it had a worker to give. */
export interface PoolCounts {
  /** Workers that can be taken. */
  readonly ready: number;
  /** How many there shall be, by configuration, demand and memory. */
  readonly target: number;
  /** How often a worker was asked for and there was one. */
  readonly hits: number;
  /** How often there was none. */
  readonly misses: number;
}

/** `take`: from asking for a worker until it can be told its function. `specialise`: until it has accepted it. */
export type WarmStage = 'take' | 'specialise';

/** Told how long each stage of a successful warm start took, in milliseconds. */
export type StageListener = (stage: WarmStage, ms: number) => void;

/** What metrics read of a pool, on any engine. */
export interface PoolReport {
  counts(): PoolCounts;
  onStage(listener: StageListener): void;
}
