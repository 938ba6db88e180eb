import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { QueryFailedError } from 'typeorm';
import { describe, expect, it } from 'vitest';
import { isConnectionFault, isPassing } from './connection-fault.js';

const coded = (code: string) => Object.assign(new Error('it failed'), { code });

describe('isConnectionFault', () => {
  it.each(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ENOENT', '08006', '57P01', '57P03', '53300', '25006', '25P03'])(
    'sees in %s that the server can’t be reached',
    (code) => {
      expect(isConnectionFault(coded(code))).toBe(true);
      expect(isConnectionFault(new QueryFailedError('SELECT 1', [], coded(code)))).toBe(true);
      expect(isConnectionFault(new AggregateError([coded('x'), coded(code)]))).toBe(true);
    },
  );

  it.each(['23505', '42P01', '22P02', '40001', '57014', '28P01', '3D000', 'EACCES'])(
    'leaves %s what it is: trying again would not help',
    (code) => {
      expect(isConnectionFault(coded(code))).toBe(false);
      expect(isConnectionFault(new QueryFailedError('SELECT 1', [], coded(code)))).toBe(false);
    },
  );

  it.each([
    'Connection terminated unexpectedly',
    'Connection terminated due to connection timeout',
    'timeout exceeded when trying to connect',
    'Client has encountered a connection error and is not queryable',
    'Query read timeout',
  ])('knows node-postgres’s “%s”', (message) => expect(isConnectionFault(new Error(message))).toBe(true));

  it.each([new Error('duplicate key value'), 'ECONNREFUSED', undefined, null, new AggregateError([])])(
    'takes %s for none',
    (thrown) => expect(isConnectionFault(thrown)).toBe(false),
  );
});

describe('isPassing', () => {
  it.each(['57014', '57P01', '55P03', '40001', '40P01', '53100'])('sees in %s what another time may be taken', (code) =>
    expect(isPassing(coded(code))).toBe(true),
  );

  it('sees it in a database that is away', () => expect(isPassing(new DatabaseUnavailable(undefined))).toBe(true));

  it.each([coded('23505'), coded('22P05'), new Error('it failed'), undefined, null])('takes %s for final', (thrown) =>
    expect(isPassing(thrown)).toBe(false),
  );
});
