import { type CallbacksConfig, type InvocationsConfig, LONGEST_AGE_MS, MOST_ATTEMPTS } from '#libs/config/config.js';
import { isJsonObject } from '#libs/json/json-scan.js';
import { ApiPropertyOptional, OmitType } from '@nestjs/swagger';
import { targetFault } from './callback-target.js';
import { CALLBACK_FORMATS, type CallbackFormat, RETRYABLE, type Retryable, type RetryPolicy } from './invocation.js';

const LONGEST_URL = 2_048;
// oxlint-disable-next-line no-control-regex -- these may not be in a text
const NO_TEXT = /[\x00-\x1f\x7f]/;

const CALLBACK_URL = {
  type: String,
  maxLength: LONGEST_URL,
  description:
    'An http or https URL that is told of its end by a signed POST, where the installation has callbacks. Addresses that are private are refused.',
};

/**
 * How calls for later are tried and whom their ends are told: each call may say so, and its function for those that
 * don't.
 */
export class InvocationPolicyDto {
  @ApiPropertyOptional({
    type: 'integer',
    minimum: 1,
    maximum: MOST_ATTEMPTS,
    description: 'How often a call is tried (INVOCATIONS_MAX_ATTEMPTS, 3).',
  })
  max_attempts?: number;

  @ApiPropertyOptional({
    type: [String],
    enum: RETRYABLE,
    description:
      'After which failures it is tried again: the handler raised (`error`), took too long (`timeout`), or its worker ended (`crash`). All of them where it is left out.',
  })
  retry_on?: readonly Retryable[];

  @ApiPropertyOptional({
    type: 'integer',
    minimum: 0,
    maximum: LONGEST_AGE_MS,
    description:
      'The longest pause before the second attempt, in milliseconds (INVOCATIONS_BACKOFF_MS, 1000). It doubles with each attempt, and the pause is any time up to it.',
  })
  backoff_ms?: number;

  @ApiPropertyOptional({
    type: 'integer',
    minimum: 1,
    maximum: LONGEST_AGE_MS,
    description: 'It is given up when it is still waiting so long after it was due (INVOCATIONS_MAX_AGE_MS, a day).',
  })
  max_age_ms?: number;

  @ApiPropertyOptional(CALLBACK_URL)
  callback_url?: string;

  @ApiPropertyOptional({
    type: String,
    enum: CALLBACK_FORMATS,
    description:
      'What that gets: the invocation as JSON (`plain`, where it is left out), or the same as a CloudEvent, with its attributes in headers (`binary`) or beside it (`structured`).',
  })
  callback_format?: CallbackFormat;
}

export type InvocationPolicy = Readonly<InvocationPolicyDto>;

/** The same of one call, or of a schedule's: nobody may be told of its end though its function names somebody. */
export class CallPolicyDto extends OmitType(InvocationPolicyDto, ['callback_url']) {
  @ApiPropertyOptional({
    ...CALLBACK_URL,
    nullable: true,
    description: `${CALLBACK_URL.description} Null: nobody is told. Left out: what its function's \`invocation_defaults\` say.`,
  })
  callback_url?: string | null;
}

type Rules = {
  readonly [Name in keyof Required<InvocationPolicy>]: (value: unknown, name: string) => string | undefined;
};

const RULES: Rules = {
  max_attempts: whole(1, MOST_ATTEMPTS),
  retry_on: (kinds, name) => {
    const known = (kind: unknown) => RETRYABLE.includes(kind as Retryable);
    if (Array.isArray(kinds) && kinds.length <= RETRYABLE.length && kinds.every(known)) return undefined;
    return `${name} must be a list of ${RETRYABLE.join(', ')}; empty: of none.`;
  },
  backoff_ms: whole(0, LONGEST_AGE_MS),
  max_age_ms: whole(1, LONGEST_AGE_MS),
  callback_url: (url, name) => {
    const href = hrefOf(url);
    if (href === undefined) return `${name} is no URL.`;
    return href.length > LONGEST_URL ? `${name} must be at most ${LONGEST_URL} characters long.` : undefined;
  },
  callback_format: (format, name) => {
    if (CALLBACK_FORMATS.includes(format as CallbackFormat)) return undefined;
    return `${name} must be ${CALLBACK_FORMATS.join(', ')}.`;
  },
};

export const POLICY_NAMES = Object.keys(RULES) as (keyof InvocationPolicy)[];

function whole(least: number, most: number) {
  return (value: unknown, name: string): string | undefined => {
    if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return undefined;
    return `${name} must be a whole number from ${least} to ${most}.`;
  };
}

/** As it is called: what is no character of a URL is escaped in it, as is what PostgreSQL has no text for. */
function hrefOf(url: unknown): string | undefined {
  return typeof url === 'string' && URL.canParse(url) ? new URL(url).href : undefined;
}

/** Which member of a call is wrong, and why. One that is null or left out never is. */
export function policyFault(members: Readonly<Record<string, unknown>>) {
  for (const field of POLICY_NAMES) {
    const { [field]: value } = members;
    const message = value === undefined || value === null ? undefined : RULES[field](value, field);
    if (message !== undefined) return { field, message };
  }
  return undefined;
}

/** The same of what a function keeps for its calls. */
export function defaultsFault(name: string, value: unknown): string | undefined {
  if (!isJsonObject(value)) return `${name} must be a JSON object, such as {"max_attempts": 5}.`;
  for (const [key, one] of Object.entries(value)) {
    const known = POLICY_NAMES.find((policy) => policy === key);
    // It is kept as it is sent.
    if (typeof one === 'string' && (NO_TEXT.test(one) || !one.isWellFormed())) {
      return `${name}.${key.slice(0, 64)} holds characters that are no text.`;
    }
    const fault =
      known === undefined
        ? `${name} has no member ${JSON.stringify(key.slice(0, 64))}. Known: ${POLICY_NAMES.join(', ')}.`
        : RULES[known](one, `${name}.${key}`);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** A callback's URL without its query, which may hold a secret. */
export function shownUrl(url: string): string {
  return url.replace(/[?#].*$/s, '');
}

/** Why this installation would call nobody there; `name`: of the member that holds it. */
export function callbackFault(url: string, { secrets, allow }: CallbacksConfig, name: string): string | undefined {
  if (secrets.length === 0) return 'This installation has no callbacks: set CALLBACKS_SECRETS to have them.';
  const fault = targetFault(url, allow);
  return fault === undefined ? undefined : `${name} ${fault}.`;
}

/** All that is decided of a call. */
export interface ResolvedPolicy {
  readonly retry: RetryPolicy;
  readonly maxAgeMs: number;
  readonly callbackUrl: string | null;
  readonly callbackFormat: CallbackFormat;
}

/** What the first of these that says something says, and the installation where none does. */
export function resolvePolicy(
  { maxAttempts, backoffMs, maxAgeMs }: Pick<InvocationsConfig, 'maxAttempts' | 'backoffMs' | 'maxAgeMs'>,
  ofCall: Readonly<CallPolicyDto>,
  ofFunction: InvocationPolicy,
): ResolvedPolicy {
  const said = <Name extends keyof InvocationPolicy>(name: Name) => ofCall[name] ?? ofFunction[name];
  return {
    retry: {
      maxAttempts: said('max_attempts') ?? maxAttempts,
      on: [...new Set(said('retry_on') ?? RETRYABLE)],
      backoffMs: said('backoff_ms') ?? backoffMs,
    },
    maxAgeMs: said('max_age_ms') ?? maxAgeMs,
    // Null: nobody is told, whatever the function says.
    callbackUrl: ofCall.callback_url === null ? null : (hrefOf(said('callback_url')) ?? null),
    callbackFormat: said('callback_format') ?? 'plain',
  };
}
