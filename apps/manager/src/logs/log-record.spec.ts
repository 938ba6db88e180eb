import { expect, it } from 'vitest';
import { recordOf } from './log-record.js';

const LINE = { time: '2026-01-02T03:04:05.000000000Z', replica: 'r', revision: 2, stream: 'stderr' as const };

it.each([
  ['[6f96-a.b_c] said hello', 'handler', '6f96-a.b_c', 'said hello'],
  ['[one] [two] nested', 'handler', 'one', '[two] nested'],
  ['[one] {"faas": "worker_failed"}', 'handler', 'one', '{"faas": "worker_failed"}'],
  ['[one] ', 'handler', 'one', ''],
  ['[123 bytes of output dropped: nobody reads it]', 'handler', null, '[123 bytes of output dropped: nobody reads it]'],
  ['| [one] forged', 'handler', null, '| [one] forged'],
  ['| {"faas": "forged"}', 'handler', null, '| {"faas": "forged"}'],
  ['{"faas": "runner_exited", "runner": 1}', 'worker', null, '{"faas": "runner_exited", "runner": 1}'],
  [`[${'x'.repeat(65)}] too long`, 'handler', null, `[${'x'.repeat(65)}] too long`],
])('tells who wrote %s', (text, source, requestId, line) => {
  expect(recordOf({ ...LINE, text })).toEqual({ ...LINE, source, request_id: requestId, line });
});

it('says null where an engine knows no stream and nobody has noted the revision', () => {
  expect(recordOf({ ...LINE, revision: undefined, stream: undefined, text: '' })).toMatchObject({
    revision: null,
    stream: null,
  });
});
