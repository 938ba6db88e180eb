import { AppError } from '#libs/errors/app-error.js';
import type { FunctionId, WorkloadFault } from '#libs/orchestrator/workload.js';

export class InvalidUpload extends AppError {
  readonly code = 'invalid_upload';
  readonly kind = 'invalid';
  /** `field` is the form field at fault, or `form` for the upload as a whole. */
  constructor(field: string, message: string) {
    super(message, { extras: { field } });
  }
}

export class UploadTooLarge extends AppError {
  readonly code = 'upload_too_large';
  readonly kind = 'too_large';
  constructor(limitBytes: number, field: 'python_file' | 'code' | 'form' = 'python_file') {
    const what =
      field === 'form'
        ? `form is larger than the ${limitBytes} bytes that its file and all its other fields may have together`
        : `file is larger than the limit of ${limitBytes} bytes`;
    super(`The uploaded ${what}.`, { extras: { field, limit_bytes: limitBytes } });
  }
}

export class HandlerNotLoadable extends AppError {
  readonly code = 'handler_not_loadable';
  readonly kind = 'unprocessable';
  constructor(message: string, { detail, line, report }: Pick<WorkloadFault, 'detail' | 'line' | 'report'>) {
    super(message, {
      extras: {
        traceback: detail ?? null,
        line: line ?? null,
        python_type: report?.pythonType ?? null,
        python_message: report?.pythonMessage ?? null,
        stderr: report?.stderr ?? '',
        available: report?.available ?? [],
      },
    });
  }
}

/** A change of what users say of a function is at fault; `field` is the member. */
export class InvalidUpdate extends AppError {
  readonly code = 'invalid_update';
  readonly kind = 'invalid';
  constructor(field: string, message: string) {
    super(message, { extras: { field } });
  }
}

export class NameTaken extends AppError {
  readonly code = 'name_taken';
  readonly kind = 'conflict';
  constructor(name: string) {
    super(`Another function has the name ${name}: choose another, or change that function.`, {
      extras: { field: 'name' },
    });
  }
}

/** Somebody changed the function since the caller last read it. */
export class VersionOutdated extends AppError {
  readonly code = 'version_outdated';
  readonly kind = 'precondition_failed';
  constructor(id: FunctionId, version: number) {
    super(`Function ${id} has changed: its ETag is "${version}" now. Read it again, then decide.`);
  }
}

export class FunctionNotFound extends AppError {
  readonly code = 'function_not_found';
  readonly kind = 'not_found';
  constructor(id: string) {
    super(`Function ${printable(id)} does not exist.`);
  }
}

/** Somebody removed the function before its upload was through. */
export class FunctionRemoved extends AppError {
  readonly code = 'function_removed';
  readonly kind = 'conflict';
  constructor(id: FunctionId) {
    super(`Function ${id} was removed while this upload waited for it to become ready.`);
  }
}

export class FunctionNotReady extends AppError {
  readonly code = 'function_not_ready';
  readonly kind = 'unavailable';
  override readonly retryAfterSeconds = 2;
  constructor(id: FunctionId, reason: string, options: { detail?: string | undefined } = {}) {
    super(`Function ${id} did not become ready: ${reason}`, {
      extras: options.detail === undefined ? {} : { log: options.detail },
    });
  }
}

/** The engine couldn't be reached when the reconcile loop last tried; `message` is what it said then. */
export class EngineUnavailable extends AppError {
  readonly code = 'orchestrator_unavailable';
  readonly kind = 'unavailable';
  override readonly retryAfterSeconds = 5;
  constructor(message: string) {
    super(message);
  }
}

/** A caller's id may be any text, so it is shown cut and quoted. */
function printable(id: string): string {
  return JSON.stringify(id.slice(0, 64));
}
