import { AppError } from '#libs/errors/app-error.js';

/** The engine can't be reached or doesn't answer in time. Everything that waits for it is tried again. */
export class OrchestratorUnavailable extends AppError {
  readonly code = 'orchestrator_unavailable';
  readonly kind = 'unavailable';
  override readonly retryAfterSeconds = 5;

  constructor(engine: string, reason: string, cause?: unknown) {
    super(`The ${engine} engine can't be reached: ${reason}`, { cause });
  }
}

/** The engine that was asked for can't be used as it is configured. Told at boot; its message says what to do. */
export class EngineNotConfigured extends Error {}
