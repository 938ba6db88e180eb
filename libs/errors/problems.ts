const TRACEBACK = `Traceback (most recent call last):
  File "handler.py", line 4, in handle
ValueError: no name given
`;
const SYNTAX_ERROR = `  File "handler.py", line 3
    print(
         ^
SyntaxError: '(' was never closed`;

interface Member {
  readonly type: string | readonly string[];
  readonly format?: 'int64';
  readonly minimum?: number;
  readonly items?: { readonly type: 'string' };
  readonly description: string;
}

/**
 * Members that some problems have beside those of all (RFC 9457, section 3.2). The type of {@link ProblemExtras} and the
 * documented schema are both made from this list, so that nothing undeclared can be answered.
 */
export const PROBLEM_MEMBERS = {
  field: {
    type: 'string',
    description:
      'invalid_upload, invalid_update, invalid_secret, invalid_payload, invalid_invocation, invalid_event, invalid_schedule, name_taken, …_too_large: the field at fault; "form" or "body" for all of it; invalid_request: the header.',
  },
  parameter: { type: 'string', description: 'invalid_page, invalid_request: the query parameter at fault.' },
  limit_bytes: {
    type: 'integer',
    format: 'int64',
    minimum: 0,
    description: '…_too_large, …_overloaded: the limit, in bytes.',
  },
  timeout_ms: {
    type: 'integer',
    minimum: 1,
    description: 'handler_timeout: the time limit of the call, in milliseconds.',
  },
  function_status: { type: 'string', description: 'function_not_runnable: the status that the function has.' },
  reason: {
    type: 'string',
    description: 'worker_crashed: how the worker ended: out_of_memory, signal, exit, stuck or unknown.',
  },
  python_type: {
    type: ['string', 'null'],
    description:
      "handler_error, handler_not_loadable: the type of the Python exception; handler_result_invalid: the value's type.",
  },
  python_message: {
    type: ['string', 'null'],
    description: 'handler_error, handler_not_loadable: the message of the Python exception.',
  },
  path: {
    type: ['string', 'null'],
    description: 'handler_result_invalid: where in the result the value is, such as rows[1].bad.',
  },
  traceback: {
    type: ['string', 'null'],
    description: 'handler_error, handler_not_loadable: the Python traceback.',
  },
  line: { type: ['integer', 'null'], minimum: 0, description: 'handler_not_loadable: the line of the file.' },
  stderr: {
    type: 'string',
    description: 'handler_not_loadable: the last lines that the file wrote to stderr while it was loaded.',
  },
  available: {
    type: 'array',
    items: { type: 'string' },
    description:
      'handler_not_loadable: names that the file holds and that could be called, where the wanted one is not.',
  },
  functions: {
    type: 'array',
    items: { type: 'string' },
    description: 'secret_in_use: the functions that use it, and in which revisions; at most 20.',
  },
  logs: {
    type: 'array',
    items: { type: 'string' },
    description: 'Of a run, once its code was called: what it had printed.',
  },
  log: {
    type: ['string', 'null'],
    description: 'function_not_ready: what the worker wrote last.',
  },
} as const satisfies Record<string, Member>;

interface JsonTypes {
  string: string;
  integer: number;
  null: null;
  array: readonly string[];
}
type ValueOf<Schema> = Schema extends { readonly type: readonly (infer Name extends keyof JsonTypes)[] }
  ? JsonTypes[Name]
  : Schema extends { readonly type: infer Name extends keyof JsonTypes }
    ? JsonTypes[Name]
    : never;

export type ProblemExtras = {
  readonly [Name in keyof typeof PROBLEM_MEMBERS]?: ValueOf<(typeof PROBLEM_MEMBERS)[Name]> | undefined;
};

interface ProblemExample {
  readonly status: number;
  readonly detail: string;
  readonly extras?: ProblemExtras;
}

/** Every code that a request can be answered with, its status and an example. */
export const PROBLEMS = {
  invalid_request: {
    status: 400,
    detail: 'There is no query parameter "Limit". Known: limit, after.',
    extras: { parameter: 'Limit' },
  },
  websocket_unsupported: {
    status: 400,
    detail: 'A handler of the kind payload speaks no WebSocket: only applications of ASGI do.',
  },
  invalid_page: {
    status: 400,
    detail: 'limit must be a whole number from 1 to 1000.',
    extras: { parameter: 'limit' },
  },
  invalid_upload: {
    status: 400,
    detail: 'function_name is missing: send the name of the function inside the file.',
    extras: { field: 'function_name' },
  },
  invalid_update: {
    status: 400,
    detail: 'enabled must be true or false.',
    extras: { field: 'enabled' },
  },
  invalid_payload: {
    status: 400,
    detail: 'The member "payload" is missing. Send {"payload": "<string>"} as JSON.',
    extras: { field: 'payload' },
  },
  invalid_invocation: {
    status: 400,
    detail: 'delay_ms must be a whole number from 0 to 2592000000.',
    extras: { field: 'delay_ms' },
  },
  invalid_event: {
    status: 400,
    detail: 'source is missing.',
    extras: { field: 'source' },
  },
  invalid_schedule: {
    status: 400,
    detail: 'Send cron or interval_ms, not both.',
    extras: { field: 'interval_ms' },
  },
  invalid_secret: {
    status: 400,
    detail: 'value is empty.',
    extras: { field: 'value' },
  },
  unauthorized: {
    status: 401,
    detail: 'Send a valid API key as "Authorization: Bearer <key>" or "X-Api-Key: <key>".',
  },
  forbidden: {
    status: 403,
    detail: 'The key "prometheus" is of scope metrics: this needs one of scope deploy or admin.',
  },
  foreign_origin: {
    status: 403,
    detail:
      "Without API keys this manager answers only programs and its own pages, no other web page. Configure API_KEYS, or name the page's origin in CORS_ORIGINS.",
  },
  route_not_found: { status: 404, detail: 'There is no GET /function. See /docs for what there is.' },
  function_not_found: { status: 404, detail: 'Function "mfrggzdfmztwq2lk" does not exist.' },
  revision_not_found: { status: 404, detail: 'Function mfrggzdfmztwq2lk has no revision 7.' },
  secret_not_found: { status: 404, detail: 'There is no secret "db-password".' },
  schedule_not_found: { status: 404, detail: 'Function report has no schedule "nightly".' },
  invocation_not_found: {
    status: 404,
    detail: 'There is no invocation 019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10. It may have been removed after its time.',
  },
  log_not_kept: {
    status: 404,
    detail:
      'Invocation 019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10 is a run, of which nothing but its record is kept: its answer had what it has printed.',
  },
  method_not_allowed: { status: 405, detail: '/functions knows no PUT, only GET, HEAD, POST.' },
  request_timeout: { status: 408, detail: 'The request did not arrive in time.' },
  function_not_runnable: {
    status: 409,
    detail: "Function mfrggzdfmztwq2lk can't run now: its status is deleting (it is being removed).",
    extras: { function_status: 'deleting' },
  },
  replay_impossible: {
    status: 409,
    detail: "Invocation 019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10 can't be replayed: requests over HTTP are not kept.",
  },
  idempotency_key_reused: {
    status: 409,
    detail: 'The Idempotency-Key order-4711 came with another request before: send the very same one, or another key.',
  },
  invocation_ended: {
    status: 409,
    detail: 'Invocation 019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10 has ended already: its status is succeeded.',
  },
  function_removed: {
    status: 409,
    detail: 'Function mfrggzdfmztwq2lk was removed while this upload waited for it to become ready.',
  },
  revision_superseded: {
    status: 409,
    detail: 'Revision 4 of function mfrggzdfmztwq2lk did not take over: revision 5 was wanted before it was ready.',
  },
  revision_in_use: {
    status: 409,
    detail: 'Revision 4 of function mfrggzdfmztwq2lk has the calls, or is about to take them over.',
  },
  traffic_superseded: {
    status: 409,
    detail:
      'Other traffic of function mfrggzdfmztwq2lk was asked for before this could be served. Read it again, then decide.',
  },
  revision_without_traffic: {
    status: 409,
    detail:
      'Function mfrggzdfmztwq2lk has no traffic for revision 4. Give it a target first, with 0 percent if only calls that name it shall reach it.',
  },
  function_disabled: {
    status: 409,
    detail: 'Function mfrggzdfmztwq2lk is switched off. Switch it on with PATCH {"enabled": true}.',
  },
  name_taken: {
    status: 409,
    detail: 'Another function has the name orders: choose another, or change that function.',
    extras: { field: 'name' },
  },
  secret_in_use: {
    status: 409,
    detail:
      'The secret db-password is used by orders (revision 3, 4). Remove it from their settings and these revisions first.',
    extras: { functions: ['orders (revision 3, 4)'] },
  },
  secret_unreadable: {
    status: 409,
    detail: 'The secret db-password can\'t be read: its key "2026-11" is not among SECRETS_KEYS of this manager.',
  },
  secrets_not_configured: {
    status: 409,
    detail:
      'This manager has no key to encrypt secrets with: set SECRETS_KEYS to an id and 32 random bytes in base64, as in "k1:$(openssl rand -base64 32)", the same for all managers.',
  },
  too_many_secrets: {
    status: 409,
    detail: 'There are 1000 secrets, which is as many as there may be. Remove one that no function uses.',
  },
  too_many_schedules: {
    status: 409,
    detail:
      'Function mfrggzdfmztwq2lk has 100 schedules, which is as many as there may be (SCHEDULES_PER_FUNCTION). Remove one first.',
  },
  version_outdated: {
    status: 412,
    detail: 'Function mfrggzdfmztwq2lk has changed: its ETag is "3" now. Read it again, then decide.',
  },
  upload_too_large: {
    status: 413,
    detail: 'The uploaded file is larger than the limit of 10485760 bytes.',
    extras: { field: 'python_file', limit_bytes: 10_485_760 },
  },
  payload_too_large: {
    status: 413,
    detail: 'The payload is larger than the limit of 6291456 bytes.',
    extras: { field: 'payload', limit_bytes: 6_291_456 },
  },
  unsupported_encoding: {
    status: 415,
    detail: 'Content-Encoding gzip is not supported: send the body uncompressed.',
  },
  expectation_failed: { status: 417, detail: 'Only "Expect: 100-continue" can be met.' },
  handler_not_loadable: {
    status: 422,
    detail: "SyntaxError: '(' was never closed (line 3)",
    extras: { traceback: SYNTAX_ERROR, line: 3 },
  },
  requirements_not_installable: {
    status: 422,
    detail:
      '× No solution found when resolving dependencies:\n  ╰─▶ Because reqests was not found in the package registry and you require reqests, we can conclude that your requirements are unsatisfiable.',
  },
  requirements_unsupported: {
    status: 422,
    detail:
      "Functions of this installation can't have requirements with its engine (kubernetes): LAYERS_ADDR and LAYERS_URL, by which workers fetch packages, are not set.",
  },
  function_overloaded: {
    status: 429,
    detail: 'Function mfrggzdfmztwq2lk has all its slots taken and 256 calls waiting. Try again shortly.',
  },
  queue_full: {
    status: 429,
    detail: 'As many calls of function mfrggzdfmztwq2lk wait and run as may (250000 calls, 1073741824 bytes).',
  },
  too_many_followers: {
    status: 429,
    detail: "16 clients follow this function's log already, which is as many as there may be. Try again later.",
  },
  manager_overloaded: {
    status: 429,
    detail:
      'This manager holds as many requests as its memory allows (536870912 bytes). Try again, or add managers or raise MAX_HELD_BYTES.',
    extras: { limit_bytes: 536_870_912 },
  },
  too_many_attempts: {
    status: 429,
    detail: 'Too many requests with wrong API keys came from this address. A valid key is let in at any time.',
  },
  headers_too_large: {
    status: 431,
    detail: 'The request has too many headers, or they are larger than 16384 bytes.',
  },
  internal_error: {
    status: 500,
    detail: 'Something went wrong inside the manager. The log has the details under this request id.',
  },
  handler_error: {
    status: 500,
    detail: 'ValueError: no name given',
    extras: { python_type: 'ValueError', python_message: 'no name given', traceback: TRACEBACK },
  },
  handler_result_invalid: {
    status: 500,
    detail: "The handler's return value is not JSON: rows[1].bad is of type object, which has no JSON form.",
    extras: { path: 'rows[1].bad', python_type: 'object' },
  },
  unsupported_transfer_coding: {
    status: 501,
    detail: 'Transfer-Encoding "gzip, chunked" is not supported: only chunked is.',
  },
  http_unsupported: {
    status: 501,
    detail:
      "Function mfrggzdfmztwq2lk can't be called over HTTP: the image of its workers knows only calls with a payload (WORKER_IMAGE).",
  },
  handler_response_invalid: {
    status: 502,
    detail: "The handler's answer can't be sent: it has more than 128 headers.",
  },
  worker_crashed: {
    status: 502,
    detail: 'The worker ended while it ran the call: it reached its memory limit.',
    extras: { reason: 'out_of_memory' },
  },
  build_unavailable: {
    status: 503,
    detail: "The package index can't be used: Failed to fetch: https://pypi.org/simple/requests/",
  },
  database_unavailable: {
    status: 503,
    detail: "The database can't be reached. Nothing was changed; try again.",
  },
  orchestrator_unavailable: {
    status: 503,
    detail: "The docker engine can't be reached: connect ENOENT /var/run/docker.sock",
  },
  function_not_ready: {
    status: 503,
    detail: 'Function mfrggzdfmztwq2lk did not become ready: not within 60000 ms.',
  },
  handler_timeout: {
    status: 504,
    detail: 'The handler ran past its time limit of 30000 ms.',
    extras: { timeout_ms: 30_000 },
  },
} as const satisfies Record<string, ProblemExample>;

export type ProblemCode = keyof typeof PROBLEMS;
