import type { Problem } from './client/index.js';

/** What a command ends with, by the kind of what went wrong; `faas --help` and docs/cli.md list the same. */
export const EXIT = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  not_found: 3,
  conflict: 4,
  auth: 5,
  function: 6,
  unavailable: 7,
  interrupted: 130,
} as const;

export type FailureKind = Exclude<keyof typeof EXIT, 'ok' | 'interrupted'>;

export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: 'done',
  unexpected: 'something unforeseen, here or in the manager',
  usage: 'an option, an argument, faas.yaml or a value is wrong',
  not_found: 'no such function, revision or file',
  conflict: 'the state forbids it: a name is taken, a function is disabled, a newer change came first',
  auth: 'the key is missing, wrong, or may not do this',
  function: "the function's own fault: not loadable, raised, no JSON result, over its time, crashed",
  unavailable: 'nobody answers, or not in time, or too many ask at once; worth another try',
  interrupted: 'Ctrl-C',
};

/** A fault whose message is all that a user needs; anything else that is thrown is a fault of this program. */
export class Failure extends Error {
  constructor(
    readonly kind: FailureKind,
    message: string,
    readonly problem?: Problem,
    /** What to do about it, or where to look. */
    readonly hint?: string,
  ) {
    super(message);
  }
}

const OF_THE_FUNCTION = new Set([
  'handler_not_loadable',
  'handler_error',
  'handler_result_invalid',
  'handler_response_invalid',
  'http_unsupported',
  'handler_timeout',
  'worker_crashed',
]);
const BY_STATUS: Readonly<Record<number, FailureKind>> = {
  401: 'auth',
  403: 'auth',
  404: 'not_found',
  408: 'unavailable',
  409: 'conflict',
  412: 'conflict',
  429: 'unavailable',
  502: 'unavailable',
  503: 'unavailable',
  504: 'unavailable',
};

export function kindOf(status: number, code?: string): FailureKind {
  if (code !== undefined && OF_THE_FUNCTION.has(code)) return 'function';
  if (code === 'too_many_attempts') return 'auth';
  // The manager knows no such path: an older one, or something else answers at this URL.
  if (code === 'route_not_found') return 'unexpected';
  return BY_STATUS[status] ?? (status >= 400 && status < 500 ? 'usage' : 'unexpected');
}

export function failureOf(problem: Problem): Failure {
  const kind = kindOf(problem.status, problem.code);
  return new Failure(kind, problem.detail, problem, hintOf(kind, problem));
}

function hintOf(kind: FailureKind, { code }: Problem): string | undefined {
  if (code === 'unauthorized') return 'Store a key with: faas login, or set FAAS_API_KEY.';
  if (code === 'route_not_found') return 'The manager is older than this faas, or FAAS_URL names something else.';
  return kind === 'unexpected' ? "The manager's log has it under the request's id." : undefined;
}
