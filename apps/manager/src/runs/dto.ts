import { getSchemaPath, type OpenAPIObject } from '@nestjs/swagger';
import { LogRecordDto } from '../logs/dto/log-record.dto.js';

/** What came of a run. Not a class: see the answer of a call. */
export const RUN_COMPONENTS: NonNullable<OpenAPIObject['components']> = {
  schemas: {
    RunResult: {
      type: 'object',
      required: ['result', 'duration_ms', 'logs'],
      properties: {
        result: { description: 'What the callable returned: any JSON, null too.' },
        duration_ms: {
          type: 'number',
          minimum: 0,
          description: 'How long its worker took for the call, in milliseconds.',
        },
        logs: {
          type: 'array',
          items: { $ref: getSchemaPath(LogRecordDto) },
          description: 'What the code has printed, while it was loaded and while it ran: the newest 1,000 lines.',
        },
      },
      example: { result: 'Hello, Ada!', duration_ms: 3.4, logs: [] },
    },
  },
};
