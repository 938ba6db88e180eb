import { type ApiHeaderOptions, ApiProperty, type OpenAPIObject } from '@nestjs/swagger';

export class ExecuteRequestDto {
  @ApiProperty({
    description: 'Handed to the handler as it is. Its limit is 6 MiB of UTF-8 unless configured otherwise.',
    maxLength: 64 * 1024 * 1024,
    example: '{"name": "Ada"}',
  })
  payload: string;
}

export const IDEMPOTENCY_KEY = {
  name: 'Idempotency-Key',
  required: false,
  description:
    'Of requests to one function with the same key only the first one counts: the others are answered with its invocation, or with 409 where they ask for something else.',
  schema: { type: 'string', minLength: 1, maxLength: 255 },
} satisfies ApiHeaderOptions;

/** Of calls that may be kept to run later. */
export const PREFER: ApiHeaderOptions = {
  name: 'Prefer',
  required: false,
  description:
    '`respond-async`: the call is kept and runs later; the answer, `202`, is that of `POST /functions/{id}/invocations`.',
  schema: { type: 'string' },
};

/** Of such calls alone. */
export const KEY_OF_KEPT: ApiHeaderOptions = {
  ...IDEMPOTENCY_KEY,
  description: `With \`Prefer: respond-async\`: ${IDEMPOTENCY_KEY.description}`,
};

/** What every answer to a call says of it. */
export const TIMING_HEADERS = {
  'Server-Timing': {
    description: 'Milliseconds: waiting for a slot, in the worker, and altogether.',
    schema: { type: 'string' as const, example: 'queue;dur=0.01, worker;dur=1.52, total;dur=1.74' },
  },
  'X-Cold-Start': {
    description: 'Whether the call found no replica of its function and waited for one.',
    schema: { type: 'string' as const, enum: ['true', 'false'] },
  },
  'X-Faas-Invocation': {
    description: 'The id of the call in the history (`GET /invocations/{id}`), where the installation keeps one.',
    schema: { type: 'string' as const, example: '019356b4-1c30-7b2e-9f4c-5d2f4a6e8b10' },
  },
  'X-Faas-Revision': {
    description: 'The revision that ran it.',
    schema: { type: 'integer' as const, minimum: 1, example: 3 },
  },
};

/** Not a class: whatever decorators say of a property, they give it a type, and a result may have any. */
export const EXECUTION_COMPONENTS: NonNullable<OpenAPIObject['components']> = {
  schemas: {
    ExecuteResponse: {
      type: 'object',
      required: ['result'],
      properties: { result: { description: "The handler's return value: any JSON, null too." } },
      example: { result: { greeting: 'Hello, Ada!' } },
    },
  },
};
