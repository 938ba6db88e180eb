import { AppError } from '#libs/errors/app-error.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';

export class InvalidPayload extends AppError {
  readonly code = 'invalid_payload';
  readonly kind = 'invalid';
  constructor(message: string, field = 'payload') {
    super(`${message} Send {"payload": "<string>"} as JSON.`, { extras: { field } });
  }
}

export class PayloadTooLarge extends AppError {
  readonly code = 'payload_too_large';
  readonly kind = 'too_large';
  /** `limitBytes` is undefined where only the worker knows it. */
  constructor(
    limitBytes: number | undefined,
    message = `The payload is larger than the limit of ${limitBytes} bytes.`,
  ) {
    super(message, {
      extras: { field: 'payload', ...(limitBytes === undefined ? {} : { limit_bytes: limitBytes }) },
    });
  }
}

/** What says that it is an event is none; `attribute`: the one at fault. */
export class InvalidEvent extends AppError {
  readonly code = 'invalid_event';
  readonly kind = 'invalid';
  constructor(attribute: string, message: string) {
    super(message, { extras: { field: attribute } });
  }
}

export class FunctionNotRunnable extends AppError {
  readonly code = 'function_not_runnable';
  readonly kind = 'conflict';
  constructor(id: FunctionId, phase: string, reason: string | undefined) {
    super(`Function ${id} can't run now: its status is ${phase}${reason === undefined ? '' : ` (${reason})`}.`, {
      extras: { function_status: phase },
    });
  }
}

export class FunctionDisabled extends AppError {
  readonly code = 'function_disabled';
  readonly kind = 'conflict';
  constructor(id: FunctionId) {
    super(`Function ${id} is switched off. Switch it on with PATCH {"enabled": true}.`);
  }
}

export class FunctionOverloaded extends AppError {
  readonly code = 'function_overloaded';
  readonly kind = 'saturated';
  constructor(
    id: FunctionId,
    waiting: number,
    override readonly retryAfterSeconds: number,
  ) {
    super(`Function ${id} has all its slots taken and ${waiting} calls waiting. Try again shortly.`, { isMany: true });
  }
}

/** Nobody knows yet whether the function is one that these callers may call. */
export class TooManyStrangers extends AppError {
  readonly code = 'manager_overloaded';
  readonly kind = 'saturated';
  override readonly retryAfterSeconds = 1;
  constructor() {
    super('This manager looks up as many functions for callers without a key as it may. Try again shortly.', {
      isMany: true,
    });
  }
}

/** As many WebSockets are open as one function, or this manager, may have. */
export class TooManyWebSockets extends AppError {
  readonly kind = 'saturated';
  override readonly retryAfterSeconds = 1;
  constructor(
    readonly code: 'function_overloaded' | 'manager_overloaded',
    most: number,
  ) {
    const whose = code === 'manager_overloaded' ? 'This manager' : 'The function';
    super(`${whose} has as many WebSockets as it may (${most}), or is leaving. Try again shortly.`, { isMany: true });
  }
}

/** It asks for a WebSocket, and not as clients have to. */
export class InvalidHandshake extends AppError {
  readonly code = 'invalid_request';
  readonly kind = 'invalid';
  constructor() {
    super(
      'This is no right request for a WebSocket: GET, HTTP/1.1, no body, Connection: Upgrade, Upgrade: websocket, Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key, sent once all before it are answered.',
    );
  }
}

/** Its handler is none that speaks WebSocket. */
export class WebSocketUnsupported extends AppError {
  readonly code = 'websocket_unsupported';
  readonly kind = 'invalid';
  constructor(message: string) {
    super(message);
  }
}

export class HandlerError extends AppError {
  readonly code = 'handler_error';
  readonly kind = 'failed';
  constructor(message: string, python: { type?: string; message?: string; traceback?: string }) {
    super(message, {
      extras: {
        python_type: python.type ?? null,
        python_message: python.message ?? null,
        traceback: python.traceback ?? null,
      },
    });
  }
}

/** Its client knows it by the code, so that this is for the history alone. */
export class WebSocketFailed extends HandlerError {
  constructor() {
    super('The application has ended the WebSocket with 1011, which says that it has failed: its log says more.', {});
  }
}

export class HandlerResultInvalid extends AppError {
  readonly code = 'handler_result_invalid';
  readonly kind = 'failed';
  /** `path` is undefined where it is not one value that has no JSON form. */
  constructor(message: string, { path, type }: { path?: string | undefined; type?: string | undefined } = {}) {
    super(message, { extras: path === undefined ? {} : { path, python_type: type ?? null } });
  }
}

/** What a handler answers to an HTTP call is no answer, or is out of bounds. */
export class HandlerResponseInvalid extends AppError {
  readonly code = 'handler_response_invalid';
  readonly kind = 'crashed';
  constructor(message: string) {
    super(message);
  }
}

/** The payload of a handler is text. */
export class PayloadNotText extends AppError {
  readonly code = 'invalid_payload';
  readonly kind = 'invalid';
  constructor(message: string) {
    super(message, { extras: { field: 'body' } });
  }
}

/** The image of its workers offers no more than the bare contract. */
export class HttpUnsupported extends AppError {
  readonly code = 'http_unsupported';
  readonly kind = 'not_implemented';
  constructor(id: FunctionId) {
    super(
      `Function ${id} can't be called over HTTP: the image of its workers knows only calls with a payload (WORKER_IMAGE).`,
    );
  }
}

export class HandlerTimeout extends AppError {
  readonly code = 'handler_timeout';
  readonly kind = 'timed_out';
  /** `idleMs`: its answer had begun, and paused for longer than any may. */
  constructor(timeoutMs: number, idleMs?: number) {
    const what =
      idleMs === undefined
        ? `The handler ran past its time limit of ${timeoutMs} ms.`
        : `The handler's answer paused for more than ${idleMs} ms (STREAM_IDLE_TIMEOUT_MS).`;
    super(what, { extras: { timeout_ms: timeoutMs } });
  }
}

/** How a worker ended, as far as anybody knows. */
export type CrashReason = 'out_of_memory' | 'signal' | 'exit' | 'stuck' | 'unknown';

export class WorkerCrashed extends AppError {
  readonly code = 'worker_crashed';
  readonly kind = 'crashed';
  constructor(reason: CrashReason, message: string, what = 'The worker ended while it ran the call') {
    super(`${what}: ${message}`, { extras: { reason } });
  }
}

/** The caller is gone: nobody reads this. */
export class CallCancelled extends AppError {
  readonly code = 'call_cancelled';
  readonly kind = 'failed';
  constructor() {
    super('The caller disconnected.');
  }
}
