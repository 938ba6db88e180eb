import type { LogLine } from '#libs/orchestrator/replica-log.js';
import type { LogRecordDto } from './dto/log-record.dto.js';

/** The worker lets no line through that begins so and that a handler has written. */
const NOTE = '{"faas": "';
/** As the worker marks what a call prints; a line of another origin that looks so has `| ` before it. */
const OF_A_CALL = /^\[([\w.-]{1,64})\] /;

/** Who wrote a line, as the worker has marked it (docs/worker-protocol.md, Log). */
export function recordOf({ time, replica, revision, stream, text }: LogLine): LogRecordDto {
  const [mark, requestId = null] = OF_A_CALL.exec(text) ?? [];
  const source = text.startsWith(NOTE) ? 'worker' : 'handler';
  return {
    time,
    replica,
    revision: revision ?? null,
    source,
    stream: stream ?? null,
    request_id: requestId,
    line: text.slice(mark?.length ?? 0),
  };
}
