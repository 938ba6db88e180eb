import { applyDecorators } from '@nestjs/common';
import { ApiResponse, type OpenAPIObject } from '@nestjs/swagger';
import { titleOf } from './problem.js';
import { PROBLEM_MEMBERS, type ProblemCode, type ProblemExtras, PROBLEMS } from './problems.js';

type Components = NonNullable<OpenAPIObject['components']>;

/** What the access check answers on every route that isn't open. */
const ACCESS: readonly ProblemCode[] = ['unauthorized', 'forbidden', 'foreign_origin', 'too_many_attempts'];

/** What any request may be answered with, whatever its path. */
const ANY: readonly ProblemCode[] = [
  'invalid_request',
  'method_not_allowed',
  'request_timeout',
  'expectation_failed',
  'headers_too_large',
  'internal_error',
  'unsupported_transfer_coding',
];

/** Documents an operation's failures, with an example of each; several codes may share a status. */
export function ApiProblems(...codes: readonly ProblemCode[]): MethodDecorator {
  return documented([...codes, 'database_unavailable', ...ACCESS, ...ANY]);
}

/** Documents what the access check answers, for a route that fails in no way of its own. */
export function ApiAccessProblems(): MethodDecorator {
  return documented([...ACCESS, ...ANY]);
}

/** Documents the failures of a route that lets everybody in. */
export function ApiOpenProblems(): MethodDecorator {
  return documented(ANY);
}

function documented(codes: readonly ProblemCode[]): MethodDecorator {
  const byStatus = Map.groupBy(codes, (code) => PROBLEMS[code].status);
  return applyDecorators(
    ...[...byStatus.entries()].map(([status, group]) =>
      ApiResponse({
        status,
        description: `${group.join(', ')}.`,
        headers: headersOf(status),
        content: {
          'application/problem+json': {
            schema: { $ref: '#/components/schemas/Problem' },
            examples: Object.fromEntries(group.map((code) => [code, { $ref: `#/components/examples/${code}` }])),
          },
        },
      }),
    ),
  );
}

/** Headers that tell what to do, by the statuses that carry them. */
const HEADERS: Readonly<Record<number, string>> = {
  401: 'WWW-Authenticate',
  405: 'Allow',
  429: 'Retry-After',
  503: 'Retry-After',
};

function headersOf(status: number) {
  const name = HEADERS[status];
  return name === undefined ? {} : { [name]: { $ref: `#/components/headers/${name}` } };
}

/** The problem document as every failure answers it, its headers, and an example of each code. */
export const PROBLEM_COMPONENTS: Components = {
  schemas: {
    Problem: {
      type: 'object',
      description: 'An RFC 9457 problem document. More members may come.',
      required: ['type', 'title', 'status', 'detail', 'error', 'code', 'request_id'],
      properties: {
        type: { type: 'string', format: 'uri', description: '`urn:service-faas:problem:` and the code.' },
        title: { type: 'string', description: 'The code in words.' },
        status: { type: 'integer', minimum: 400, maximum: 599, description: "The answer's status." },
        detail: { type: 'string', description: 'What is wrong and what to do, in one sentence.' },
        error: { type: 'string', description: 'The same sentence as `detail`.' },
        code: { $ref: '#/components/schemas/ProblemCode' },
        request_id: { type: 'string', maxLength: 64, description: 'Also in the header X-Request-Id.' },
        ...structuredClone<Components['schemas']>(PROBLEM_MEMBERS as unknown as Components['schemas']),
      },
      example: exampleOf('function_not_found'),
    },
    ProblemCode: { type: 'string', description: 'A stable word for programs.', enum: Object.keys(PROBLEMS) },
  },
  headers: {
    Allow: { description: 'The methods that the path knows.', schema: { type: 'string' } },
    'Retry-After': {
      description: 'Seconds after which trying again makes sense.',
      schema: { type: 'integer', minimum: 1 },
    },
    'WWW-Authenticate': { description: 'How to authenticate (RFC 9110).', schema: { type: 'string' } },
  },
  examples: Object.fromEntries(
    (Object.keys(PROBLEMS) as ProblemCode[]).map((code) => [code, { summary: titleOf(code), value: exampleOf(code) }]),
  ),
};

function exampleOf(code: ProblemCode) {
  const { status, detail, extras }: { status: number; detail: string; extras?: ProblemExtras } = PROBLEMS[code];
  return {
    type: `urn:service-faas:problem:${code}`,
    title: titleOf(code),
    status,
    detail,
    error: detail,
    code,
    request_id: '6f9619ff-8b86-4011-b42d-00cf4fc964ff',
    ...extras,
  };
}
