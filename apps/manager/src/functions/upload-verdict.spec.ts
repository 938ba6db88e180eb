import { describe, expect, it } from 'vitest';
import type { FunctionEntity, StoredFault } from './function.entity.js';
import { uploadFailure, uploadVerdict } from './upload-verdict.js';

const ID = 'aaaaaaaaaaaaaaaa';

function rowOf(code: StoredFault['code'] | undefined, overrides: Partial<FunctionEntity> = {}): FunctionEntity {
  const reason = code && { code, message: `It is ${code}.`, detail: 'the log', line: 7, terminal: false, at: '' };
  const counts = { failures: 0, postponed: 0 };
  const row: Partial<FunctionEntity> = { id: ID, phase: 'creating', ...counts, deletedAt: null, lastFault: null };
  return { ...row, reason: reason ?? null, ...overrides } as FunctionEntity;
}

describe('uploadVerdict', () => {
  it('is the row once the function runs, even when something is still wrong with it', () => {
    const row = rowOf('worker_crashed', { phase: 'running', failures: 9 });
    expect(uploadVerdict(ID, row)).toBe(row);
  });

  it.each([
    [undefined, 0],
    ['starting', 9],
    ['internal_error', 9],
    ['worker_crashed', 1],
    ['out_of_memory', 1],
  ] as const)('is still open for %s after %d failures', (code, failures) =>
    expect(uploadVerdict(ID, rowOf(code, { failures }))).toBeUndefined(),
  );

  it('is a refusal once the engine could not be reached twice in a row, whatever failed before', () => {
    expect(uploadVerdict(ID, rowOf('orchestrator_unavailable', { postponed: 1, failures: 1 }))).toBeUndefined();
    expect(uploadVerdict(ID, rowOf('orchestrator_unavailable', { postponed: 2 }))).toMatchObject({
      code: 'orchestrator_unavailable',
      message: expect.stringContaining('It is orchestrator_unavailable.') as string,
    });
  });

  it.each([
    ['handler_not_loadable', 0, 'handler_not_loadable'],
    ['image_unavailable', 0, 'function_not_ready'],
    ['rejected', 0, 'function_not_ready'],
    ['worker_crashed', 2, 'function_not_ready'],
    ['out_of_memory', 2, 'function_not_ready'],
  ] as const)('is a refusal for %s after %d failures: %s', (code, failures, refusal) => {
    expect(uploadVerdict(ID, rowOf(code, { failures }))).toMatchObject({
      code: refusal,
      message: expect.stringContaining(`It is ${code}.`) as string,
    });
  });

  it('carries traceback and line of a file that can’t be loaded', () => {
    expect(uploadVerdict(ID, rowOf('handler_not_loadable'))).toMatchObject({
      extras: { traceback: 'the log', line: 7, python_type: null, stderr: '', available: [] },
    });
    const row = rowOf('handler_not_loadable');
    const report = { pythonType: 'SystemExit', pythonMessage: '2', stderr: 'usage: …', available: ['handler'] };
    row.reason = { ...row.reason!, report };
    expect(uploadVerdict(ID, row)).toMatchObject({
      extras: { python_type: 'SystemExit', python_message: '2', stderr: 'usage: …', available: ['handler'] },
    });
  });

  it('is a refusal when somebody removed the function meanwhile', () => {
    expect(uploadVerdict(ID, null)).toMatchObject({ code: 'function_removed' });
    const deleted = rowOf(undefined, { deletedAt: new Date(), phase: 'deleting' });
    expect(uploadVerdict(ID, deleted)).toMatchObject({ code: 'function_removed' });
  });
});

describe('uploadFailure', () => {
  it('names the engine, else the last fault, else only the time', () => {
    expect(uploadFailure(ID, rowOf('orchestrator_unavailable'), 5)).toMatchObject({ code: 'orchestrator_unavailable' });
    expect(uploadFailure(ID, rowOf('starting'), 5).message).toMatch(/not within 5 ms\. It is starting/);
    const lastFault = rowOf('out_of_memory').reason;
    expect(uploadFailure(ID, rowOf('starting', { lastFault }), 5).message).toMatch(/It is out_of_memory/);
    expect(uploadFailure(ID, null, 5)).toMatchObject({ code: 'function_not_ready', extras: {} });
  });
});
