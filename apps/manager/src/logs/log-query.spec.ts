import { InvalidRequest } from '#libs/errors/errors.js';
import { expect, it } from 'vitest';
import { logQueryOf } from './log-query.js';

const LINES = { isEventStream: false, lastEventId: undefined };
const EVENTS = { ...LINES, isEventStream: true };
const TIME = '2026-01-02T03:04:05.000000006Z';

it('reads a hundred lines and ends, where nothing else is asked for', () => {
  expect(logQueryOf({}, LINES)).toEqual({
    tail: 100,
    since: undefined,
    follow: false,
    revision: undefined,
    replica: undefined,
    requestId: undefined,
    source: undefined,
  });
});

it('follows events, unless they shall not be', () => {
  expect(logQueryOf({}, EVENTS).follow).toBe(true);
  expect(logQueryOf({ follow: 'false' }, EVENTS).follow).toBe(false);
});

it('resumes events right after the last one that was read, with all that came since', () => {
  const resumed = { ...EVENTS, lastEventId: TIME };
  expect(logQueryOf({}, resumed)).toMatchObject({ tail: 10_000, since: '2026-01-02T03:04:05.000000007Z' });
  expect(logQueryOf({ since: '2026-01-02T03:04:06Z', tail: '5' }, resumed)).toMatchObject({
    tail: 10_000,
    since: '2026-01-02T03:04:06.000000000Z',
  });
  expect(logQueryOf({}, { ...EVENTS, lastEventId: 'of another' })).toMatchObject({ tail: 100, since: undefined });
  expect(logQueryOf({}, { ...LINES, lastEventId: TIME }).since).toBeUndefined();
});

it.each([
  ['tail', '10001', 'tail must be a whole number from 0 to 10000.'],
  ['tail', ['1', '2'], 'tail must be a whole number from 0 to 10000.'],
  ['since', '10m', 'since must be a time such as 2026-11-23T12:00:00Z (RFC 3339).'],
  ['since', '2026-02-30T00:00:00Z', 'since must be a time such as 2026-11-23T12:00:00Z (RFC 3339).'],
  ['since', '2026-13-01T00:00:00Z', 'since must be a time such as 2026-11-23T12:00:00Z (RFC 3339).'],
  ['follow', '', 'follow must be true or false.'],
  ['follow', 'toString', 'follow must be true or false.'],
  ['source', 'stderr', 'source must be handler or worker.'],
])('says what is wrong with %s=%s', (parameter, value, message) => {
  const attempt = () => logQueryOf({ [parameter]: value }, LINES);
  expect(attempt).toThrow(InvalidRequest);
  expect(attempt).toThrow(message);
});
