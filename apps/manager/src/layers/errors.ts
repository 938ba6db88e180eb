import { AppError } from '#libs/errors/app-error.js';

/** What a function asks for can't be installed, in the installer's own words. */
export class RequirementsNotInstallable extends AppError {
  readonly code = 'requirements_not_installable';
  readonly kind = 'unprocessable';
  constructor(message: string) {
    super(message);
  }
}

export class RequirementsUnsupported extends AppError {
  readonly code = 'requirements_unsupported';
  readonly kind = 'unprocessable';
  constructor(engine: string, why = 'it has no way to give them any') {
    super(`Functions of this installation can't have requirements with its engine (${engine}): ${why}.`);
  }
}

/** The index, or what builds, is away: the same may work later. */
export class BuildUnavailable extends AppError {
  readonly code = 'build_unavailable';
  readonly kind = 'unavailable';
  override readonly retryAfterSeconds = 10;
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
  }
}
