import type { AppError } from '#libs/errors/app-error.js';
import {
  HandlerError,
  HandlerResponseInvalid,
  HandlerResultInvalid,
  HandlerTimeout,
  InvalidEvent,
  InvalidPayload,
  PayloadNotText,
  PayloadTooLarge,
  WebSocketUnsupported,
} from './errors.js';
import { CLOSE_BRACE, lastByte, namesMember, PARSED_BYTES } from '#libs/json/json-scan.js';

interface WorkerError {
  readonly detail?: unknown;
  readonly error?: {
    readonly code?: unknown;
    readonly type?: unknown;
    readonly message?: unknown;
    readonly traceback?: unknown;
    readonly path?: unknown;
  };
}

const SHOWN_CHARACTERS = 500;

/** What a worker's refusal means. `refused` is sent elsewhere: the handler was never called. */
export function meaningOf(status: number, body: Buffer, timeoutMs: number): AppError | 'refused' {
  const parsed = parse(body);
  const detail = text(parsed?.detail);
  const type = text(parsed?.error?.type);
  const message = text(parsed?.error?.message);
  switch (parsed?.error?.code) {
    case 'worker_draining':
    case 'worker_misdirected':
      return 'refused';
    case 'handler_timeout':
      return new HandlerTimeout(timeoutMs);
    case 'handler_response_invalid':
      return new HandlerResponseInvalid(detail ?? "The handler's answer can't be sent.");
    case 'websocket_unsupported':
      return new WebSocketUnsupported(detail ?? 'The handler speaks no WebSocket.');
    case 'payload_not_text':
      return new PayloadNotText(detail ?? 'The body is not UTF-8.');
    case 'event_invalid':
      return new InvalidEvent(text(parsed.error.path) ?? 'body', detail ?? 'The event is invalid.');
    case 'payload_too_large':
      return new PayloadTooLarge(undefined, detail ?? 'The body is too large.');
    case 'handler_result_invalid':
      return new HandlerResultInvalid(detail ?? message ?? "The handler's result is not JSON.", {
        path: text(parsed.error.path),
        type,
      });
    case 'handler_error': {
      const traceback = text(parsed.error.traceback);
      return new HandlerError(sentence(type, message) ?? detail ?? 'The handler raised.', {
        ...(type === undefined ? {} : { type }),
        ...(message === undefined ? {} : { message }),
        ...(traceback === undefined ? {} : { traceback }),
      });
    }
    default:
      return plainMeaning(status, detail ?? beginningOf(body));
  }
}

/** Whether a worker says in its own words why there is no answer of the handler. */
export function isExplained(body: Buffer): boolean {
  return parse(body)?.error?.code !== undefined;
}

/** Images that offer the bare contract: 400 with a `detail` means that the handler raised. */
function plainMeaning(status: number, shown: string): AppError {
  if (status === 413) return new PayloadTooLarge(undefined, `The worker refused the payload as too large: ${shown}`);
  if (status === 422) return new InvalidPayload(`The worker could not read the body: ${shown}`);
  if (status === 400) return new HandlerError(shown, { message: shown });
  if (status === 500) {
    return new HandlerResultInvalid(
      `The worker failed on the handler's result, most likely because it is not JSON: ${shown}`,
    );
  }
  return new HandlerError(`The worker answered ${status}: ${shown}`, { message: shown });
}

function beginningOf(body: Buffer): string {
  const shown = body.toString('utf8', 0, SHOWN_CHARACTERS);
  return body.length > PARSED_BYTES ? `${shown}… (more than ${PARSED_BYTES} bytes)` : shown;
}

function sentence(type: string | undefined, message: string | undefined): string | undefined {
  if (type === undefined) return message;
  return message === undefined || message === '' ? type : `${type}: ${message}`;
}

/** Undefined too for what is larger than may be parsed: it was cut off there, so it isn't whole. */
function parse(body: Buffer): WorkerError | undefined {
  if (body.length > PARSED_BYTES) return undefined;
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

const RESULT_FIRST = Buffer.from('{"result":');

/**
 * Whether a worker's 200 begins as `{"result": …}`, as far as a beginning can tell. The usual form is told by its first
 * bytes; in any other, the member must be named early.
 */
export function beginsResult(beginning: Buffer): boolean {
  return beginning.subarray(0, RESULT_FIRST.length).equals(RESULT_FIRST) || namesMember(beginning, 'result');
}

/** Whether a worker's 200 is `{"result": …}`. The usual form is told by its first bytes, without parsing the rest. */
export function isResult(body: Buffer): boolean {
  if (body.subarray(0, RESULT_FIRST.length).equals(RESULT_FIRST)) return body.at(-1) === CLOSE_BRACE;
  if (body.length > PARSED_BYTES) return beginsResult(body) && lastByte(body) === CLOSE_BRACE;
  const parsed: unknown = parse(body);
  return typeof parsed === 'object' && parsed !== null && Object.hasOwn(parsed, 'result');
}
