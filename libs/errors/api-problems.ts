import { applyDecorators } from '@nestjs/common';
import { ApiExtraModels, ApiResponse, getSchemaPath } from '@nestjs/swagger';
import { ProblemDto } from './problem.dto.js';

interface Case {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly extras?: Readonly<Record<string, unknown>>;
}

/** What the access check answers on every route that isn't open. */
const ACCESS: readonly Case[] = [
  {
    status: 401,
    code: 'unauthorized',
    detail: 'Send a valid API key as "Authorization: Bearer <key>" or "X-Api-Key: <key>".',
  },
  {
    status: 403,
    code: 'forbidden',
    detail: 'The key "prometheus" is of scope metrics: this needs one of scope deploy or admin.',
  },
  {
    status: 403,
    code: 'foreign_origin',
    detail:
      'Without API keys this manager answers only programs of this machine and its own pages, no other web page. Configure API_KEYS to allow more.',
  },
  {
    status: 429,
    code: 'too_many_attempts',
    detail: 'Too many requests with wrong API keys came from this address. A valid key is let in at any time.',
  },
];

const EVERYWHERE: readonly Case[] = [
  ...ACCESS,
  {
    status: 500,
    code: 'internal_error',
    detail: 'Something went wrong inside the manager. The log has the details under this request id.',
  },
  {
    status: 503,
    code: 'database_unavailable',
    detail: "The database can't be reached. Nothing was changed; try again.",
  },
];

/** Documents an operation's failures, with an example of each; several codes may share a status. */
export function ApiProblems(...cases: readonly Case[]): MethodDecorator {
  return documented([...cases, ...EVERYWHERE]);
}

/** Documents what the access check answers, for a route that fails in no other way. */
export function ApiAccessProblems(): MethodDecorator {
  return documented(ACCESS);
}

function documented(cases: readonly Case[]): MethodDecorator {
  const byStatus = Map.groupBy(cases, ({ status }) => status);
  return applyDecorators(
    ApiExtraModels(ProblemDto),
    ...[...byStatus.entries()].map(([status, group]) =>
      ApiResponse({
        status,
        description: group.map(({ code }) => code).join(', '),
        headers:
          status === 429 || status === 503
            ? { 'Retry-After': { description: 'Seconds.', schema: { type: 'integer' } } }
            : {},
        content: {
          'application/problem+json': {
            schema: { $ref: getSchemaPath(ProblemDto) },
            examples: Object.fromEntries(group.map((one) => [one.code, { value: exampleOf(one) }])),
          },
        },
      }),
    ),
  );
}

function exampleOf({ status, code, detail, extras }: Case): ProblemDto {
  const title = code.replaceAll('_', ' ');
  return {
    type: `urn:service-faas:problem:${code}`,
    title: title.charAt(0).toUpperCase() + title.slice(1),
    status,
    detail,
    error: detail,
    code,
    request_id: '6f9619ff-8b86-4011-b42d-00cf4fc964ff',
    ...extras,
  };
}
