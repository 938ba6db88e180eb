import { AppError } from '#libs/errors/app-error.js';

/** The verb of the error's sentence. */
type EngineFault = "can't be reached" | "can't run workers" | 'refused a request' | 'has not finished a deletion';

/** The engine can't do now what was asked of it, mostly because it can't be reached. Every request is tried again. */
export class OrchestratorUnavailable extends AppError {
  readonly code = 'orchestrator_unavailable';
  readonly kind = 'unavailable';
  override readonly retryAfterSeconds = 5;

  constructor(engine: string, reason: string, cause?: unknown, fault: EngineFault = "can't be reached") {
    super(`The ${engine} engine ${fault}: ${reason}`, { cause });
  }
}

/** The engine that was asked for can't be used as it is configured. Told at boot; its message says what to do. */
export class EngineNotConfigured extends Error {}
