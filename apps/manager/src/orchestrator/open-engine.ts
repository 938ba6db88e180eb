import type { Engine } from '#libs/config/config.js';
import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';

/**
 * Opens an engine for this installation, each only once. Rejects when its configuration is wrong.
 */
export type OpenEngine = (engine: Engine) => Promise<Orchestrator>;

export const OPEN_ENGINE = Symbol('OpenEngine');
