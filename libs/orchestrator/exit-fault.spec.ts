import { describe, expect, it } from 'vitest';
import { exitFault, type Termination } from './exit-fault.js';

const AT = new Date('2026-01-02T03:04:05.678Z');
const TERMINATION: Termination = {
  exitCode: 1,
  oomKilled: false,
  finishedAt: AT,
  error: '',
  log: [],
  neverReady: false,
};
const REPORT =
  '{"faas": "handler_not_loadable", "type": "SyntaxError", "message": "invalid syntax", "line": 3, "traceback": "Traceback …"}';
const TRACEBACK = [
  'Traceback (most recent call last):',
  '  File "/app/worker.py", line 60, in <module>',
  '  File "/app/function/handler.py", line 12, in <module>',
  "ModuleNotFoundError: No module named 'numpy'",
];

describe('exitFault', () => {
  it('passes on what our worker says of a handler that can’t be loaded', () => {
    expect(exitFault({ ...TERMINATION, exitCode: 65, log: ['hello', REPORT, 'bye'] })).toEqual({
      code: 'handler_not_loadable',
      message: 'SyntaxError: invalid syntax',
      detail: 'Traceback …',
      line: 3,
      report: { pythonType: 'SyntaxError', pythonMessage: 'invalid syntax' },
      terminal: true,
      at: AT,
    });
  });

  it('passes on what our worker advises, what the file has instead and what it printed', () => {
    const note = {
      ...{ faas: 'handler_not_loadable', type: 'AttributeError', message: 'no handle', line: null, traceback: '' },
      ...{ advice: "Did you mean 'handler'?", available: ['handler'], stderr: 'deprecated' },
    };
    const log = [JSON.stringify(note).replace('{"faas":', '{"faas": ')];
    expect(exitFault({ ...TERMINATION, exitCode: 65, log })).toEqual({
      code: 'handler_not_loadable',
      message: "AttributeError: no handle. Did you mean 'handler'?",
      report: {
        ...{ pythonType: 'AttributeError', pythonMessage: 'no handle' },
        ...{ stderr: 'deprecated', available: ['handler'] },
      },
      terminal: true,
      at: AT,
    });
  });

  it.each([
    ['status 65 without the report', { exitCode: 65, log: ['{"faas": "other"}'] }],
    ['the report without status 65', { exitCode: 1, log: [REPORT] }],
    ['a broken report', { exitCode: 65, log: ['{"faas": "handler_not_loadable"'] }],
    ['a report in another form than ours', { exitCode: 65, log: [` ${REPORT}`, `| ${REPORT}`, `[id] ${REPORT}`] }],
    ['a traceback of a worker that was ready before', { exitCode: 1, log: TRACEBACK }],
    ['an end without a word', { exitCode: 1, neverReady: true }],
    ['a clean end before it was ready', { exitCode: 0, neverReady: true, log: TRACEBACK }],
    ['a kill before it was ready', { exitCode: 137, neverReady: true, log: TRACEBACK }],
  ])('takes %s for a crash', (_, changes) => {
    expect(exitFault({ ...TERMINATION, ...changes })).toMatchObject({
      code: 'worker_crashed',
      terminal: false,
      at: AT,
    });
  });

  it('reads the traceback of a plain image that never was ready', () => {
    expect(exitFault({ ...TERMINATION, neverReady: true, log: [...TRACEBACK, ''] })).toMatchObject({
      code: 'handler_not_loadable',
      message: "ModuleNotFoundError: No module named 'numpy'",
      line: 12,
      terminal: true,
    });
  });

  it.each([
    [1, 'The worker exited with code 1.'],
    [0, 'The worker exited with code 0.'],
    [137, 'The worker was killed by SIGKILL.'],
    [139, 'The worker was killed by SIGSEGV.'],
    [255, 'The worker exited with code 255.'],
  ])('tells exit code %i', (exitCode, message) => {
    expect(exitFault({ ...TERMINATION, exitCode })).toMatchObject({ code: 'worker_crashed', message });
  });

  it('passes on why our worker gave up on itself', () => {
    const message = 'Ended after 5 failures in a row: Its handler filled a temporary folder.';
    const log = [...TRACEBACK, `{"faas": "worker_failed", "message": "${message}"}`];
    const givenUp = { ...TERMINATION, exitCode: 76, neverReady: true, log };
    expect(exitFault(givenUp)).toMatchObject({ code: 'worker_crashed', message, terminal: false });
    expect(exitFault({ ...givenUp, exitCode: 1, neverReady: false }).message).toBe('The worker exited with code 1.');
  });

  it('goes by the log alone where nobody saw the exit code', () => {
    const unseen = { ...TERMINATION, exitCode: undefined };
    expect(exitFault({ ...unseen, log: [REPORT] })).toMatchObject({ code: 'handler_not_loadable', terminal: true });
    const log = ['{"faas": "worker_failed", "message": "It gave up."}'];
    expect(exitFault({ ...unseen, log }).message).toBe('It gave up.');
    expect(exitFault(unseen).message).toBe('The worker ended while no manager looked after it.');
  });

  it('tells lack of memory only when that was the end', () => {
    expect(exitFault({ ...TERMINATION, exitCode: 137, oomKilled: true }).code).toBe('out_of_memory');
    expect(exitFault({ ...TERMINATION, exitCode: 143, oomKilled: true }).code).toBe('worker_crashed');
    const gaveUp = (reason: string) => [`{"faas": "worker_failed", "message": "Again.", "reason": "${reason}"}`];
    expect(exitFault({ ...TERMINATION, exitCode: 76, log: gaveUp('out_of_memory') }).code).toBe('out_of_memory');
    expect(exitFault({ ...TERMINATION, exitCode: 76, log: gaveUp('stuck') }).code).toBe('worker_crashed');
  });
});
