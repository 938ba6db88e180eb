import { describe, expect, it } from 'vitest';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { ApiRefusal, isConflict, isMissing, refusalOf, rejection } from './api-fault.js';

const said = (message: string, reason = '') => JSON.stringify({ kind: 'Status', message, reason });

describe('refusalOf', () => {
  it.each([
    [400, 'admission webhook "policy" denied the request: no', 'BadRequest'],
    [403, 'pods "a" is forbidden: exceeded quota: small', 'Forbidden'],
    [403, 'unable to create new content in namespace functions because it is being terminated', 'Forbidden'],
    [404, 'namespaces "functions" not found', 'NotFound'],
    [409, 'the object has been modified', 'Conflict'],
    [413, 'Request entity too large: limit is 3145728', 'RequestEntityTooLarge'],
    [422, 'ConfigMap "a" is invalid', 'Invalid'],
  ])('takes %d for a refusal of this one request: %s', (status, message, reason) => {
    const refusal = refusalOf(status, said(message, reason));
    expect(refusal).toBeInstanceOf(ApiRefusal);
    expect(refusal).toMatchObject({ status, reason, message });
  });

  it.each([
    [429, 'too many requests'],
    [500, 'failed calling webhook "policy": connection refused'],
    [503, 'etcdserver: leader changed'],
    [504, 'the request timed out'],
  ])('takes %d for an API server that can’t serve now: %s', (status, message) => {
    const fault = refusalOf(status, said(message));
    expect(fault).toBeInstanceOf(OrchestratorUnavailable);
    expect(fault.message).toContain(message);
  });

  it('says of a 401 what is wrong, not what the API server calls it', () => {
    const fault = refusalOf(401, said('Unauthorized'));
    expect(fault).toBeInstanceOf(OrchestratorUnavailable);
    expect(fault.message).toMatch(/credentials.*expired/);
  });

  it.each([
    ['', 'status 418'],
    ['<html>teapot</html>', '<html>teapot</html>'],
    ['null', 'status 418'],
    ['[]', 'status 418'],
    ['{"message":3,"reason":{}}', 'status 418'],
  ])('makes a sentence of the body %j', (body, message) => {
    expect(refusalOf(418, body)).toMatchObject({ message, reason: '' });
  });
});

describe('a refusal', () => {
  it('is told as a fault that is tried again', () => {
    const fault = rejection(new ApiRefusal(403, 'Forbidden', 'exceeded quota'));
    expect(fault).toMatchObject({
      code: 'rejected',
      message: 'Kubernetes refused the function: exceeded quota',
      terminal: false,
    });
  });

  it('tells what is gone and what somebody else changed from all else', () => {
    const faults = [404, 409, 403].map((status) => new ApiRefusal(status, '', ''));
    expect(faults.map(isMissing)).toEqual([true, false, false]);
    expect(faults.map(isConflict)).toEqual([false, true, false]);
    expect([isMissing(new Error()), isConflict(undefined)]).toEqual([false, false]);
  });
});
