import { describe, expect, it } from 'vitest';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { engineFault, EngineRefusal } from './engine-fault.js';

describe('engineFault', () => {
  it.each([
    [{ code: 'ECONNREFUSED', message: 'connect ECONNREFUSED /x.sock' }, /ECONNREFUSED/],
    [{ code: 'ENOENT', message: 'connect ENOENT /x.sock' }, /ENOENT/],
    [{ code: 'EACCES', address: '/x.sock', message: 'connect EACCES' }, /permission denied on \/x\.sock.*docker group/],
    [{ message: 'socket hang up' }, /cut/],
    [{ statusCode: 503, message: 'no', json: { message: 'server is shutting down' } }, /shutting down/],
    [{ statusCode: 500, message: 'x', json: { message: 'transport is closing: unavailable' } }, /transport/],
  ])('takes %j for an engine that can’t be reached', (thrown, message) => {
    const fault = engineFault(thrown);
    expect(fault).toBeInstanceOf(OrchestratorUnavailable);
    expect(fault?.message).toMatch(message);
  });

  it('takes an answer for a refusal, in the engine’s own words', () => {
    const fault = engineFault({ statusCode: 409, message: '(HTTP code 409) …', json: { message: 'name in use\n' } });
    expect(fault).toBeInstanceOf(EngineRefusal);
    expect(fault).toMatchObject({ status: 409, message: 'name in use' });
  });

  it('leaves what it doesn’t know alone', () => {
    expect(engineFault(new TypeError('a fault of ours'))).toBeUndefined();
    expect(engineFault(undefined)).toBeUndefined();
  });
});
