/** Set by `npm run test:kubernetes`: the cluster that is given to it then stands in for every other engine. */
export const ON_CLUSTER = process.env['TEST_ENGINE'] === 'kubernetes';

export interface TestEngine {
  readonly name: 'docker' | 'kubernetes' | 'process';
  /** Why it can't be used here; undefined when it can. */
  readonly missing: string | undefined;
  openRoom(): Promise<EngineRoom>;
}

/** A part of an engine that one suite has for itself. */
export interface EngineRoom {
  /** What makes a manager use it. */
  readonly env: Readonly<Record<string, string>>;
  /** What makes a manager look for it where it isn't. */
  readonly nowhere: Readonly<Record<string, string>>;
  /** The workers there are, running or not. */
  workers(): Promise<string[]>;
  /** Ends and removes everything. */
  clear(): Promise<void>;
}
