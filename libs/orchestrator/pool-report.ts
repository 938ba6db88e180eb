/** What a pool of workers without a function is at one moment, and what has come of it so far. */
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

/** Hears how long a stage took of a start that got through it, in milliseconds. */
export type StageListener = (stage: WarmStage, ms: number) => void;

/** How whoever measures looks at a pool, whichever engine its workers are on. */
export interface PoolReport {
  counts(): PoolCounts;
  onStage(listener: StageListener): void;
}
