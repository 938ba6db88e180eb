import type { Engine } from '#libs/config/config.js';
import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';

/**
 * Opens an engine for this installation; each once, however often it is asked for. Rejects with what is wrong with its
 * configuration.
 */
export type OpenEngine = (engine: Engine) => Promise<Orchestrator>;

export const OPEN_ENGINE = Symbol('OpenEngine');
