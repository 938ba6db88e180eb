import { applyDecorators } from '@nestjs/common';
import { ApiExtraModels, ApiOkResponse, getSchemaPath } from '@nestjs/swagger';
import { EVENT_STREAM, NDJSON } from '../record-stream.js';
import { LogRecordDto, MissedLinesDto } from './log-record.dto.js';

/** Of one line or event. */
const RECORD = {
  schema: { anyOf: [{ $ref: getSchemaPath(LogRecordDto) }, { $ref: getSchemaPath(MissedLinesDto) }] },
  example: {
    time: '2026-11-23T12:00:00.123456789Z',
    replica: '4f1c9a4be7d1',
    revision: 1,
    source: 'handler',
    stream: 'stdout',
    request_id: '6f9619ff-8b86-4011-b42d-00cf4fc964ff',
    line: 'Hello, Ada!',
  },
};

/** Describes what a log is answered with. */
export const ApiLogRecords = () =>
  applyDecorators(
    ApiExtraModels(LogRecordDto, MissedLinesDto),
    ApiOkResponse({
      description: 'One record in each line, or as the data of each event, whose id is its time.',
      headers: {
        'X-Accel-Buffering': {
          description: 'Asks proxies to pass on each line at once.',
          schema: { type: 'string', example: 'no' },
        },
      },
      content: { [NDJSON]: RECORD, [EVENT_STREAM]: RECORD },
    }),
  );
