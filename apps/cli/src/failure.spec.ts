import { describe, expect, it } from 'vitest';
import { PROBLEMS } from '#libs/errors/problems.js';
import { EXIT, EXIT_MEANINGS, kindOf } from './failure.js';

describe('An exit code', () => {
  it.each([
    [404, 'function_not_found', 'not_found'],
    [404, 'route_not_found', 'unexpected'],
    [409, 'name_taken', 'conflict'],
    [412, 'version_outdated', 'conflict'],
    [401, 'unauthorized', 'auth'],
    [429, 'too_many_attempts', 'auth'],
    [400, 'invalid_upload', 'usage'],
    [413, 'upload_too_large', 'usage'],
    [422, 'handler_not_loadable', 'function'],
    [500, 'handler_error', 'function'],
    [502, 'worker_crashed', 'function'],
    [504, 'handler_timeout', 'function'],
    [429, 'function_overloaded', 'unavailable'],
    [503, 'database_unavailable', 'unavailable'],
    [500, 'internal_error', 'unexpected'],
    [502, undefined, 'unavailable'],
  ])('is that of its kind: %i %s is %s', (status, code, kind) => expect(kindOf(status, code)).toBe(kind));

  it('calls nothing unforeseen that the manager answers on purpose', () => {
    const unforeseen = Object.entries(PROBLEMS).filter(([code, { status }]) => kindOf(status, code) === 'unexpected');
    expect(unforeseen.map(([code]) => code).toSorted()).toEqual([
      'internal_error',
      'route_not_found',
      'unsupported_transfer_coding',
    ]);
  });

  it('has one meaning', () => {
    expect(new Set(Object.values(EXIT)).size).toBe(Object.keys(EXIT).length);
    expect(Object.keys(EXIT_MEANINGS)).toEqual(Object.keys(EXIT));
  });
});
