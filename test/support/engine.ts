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
