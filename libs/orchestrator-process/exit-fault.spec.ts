import { expect, it } from 'vitest';
import { faultOfExit } from './exit-fault.js';

const at = new Date('2026-01-02T03:04:05Z');
const report =
  '{"faas": "handler_not_loadable", "type": "SyntaxError", "message": "invalid syntax", "line": 3, "traceback": "Traceback: …"}';

it('reads the report of a handler that cannot be loaded, whether or not the status is known', () => {
  const expected = {
    code: 'handler_not_loadable',
    message: 'SyntaxError: invalid syntax',
    detail: 'Traceback: …',
    line: 3,
    report: { pythonType: 'SyntaxError', pythonMessage: 'invalid syntax' },
    terminal: true,
    at,
  };
  expect(faultOfExit({ code: 65, signal: null, at: 0 }, ['loading', report], at)).toEqual(expected);
  expect(faultOfExit(undefined, [report], at)).toEqual(expected);
});

it('does not take what a handler printed for the worker’s own report when the status says otherwise', () => {
  expect(faultOfExit({ code: 1, signal: null, at: 0 }, [report], at)).toMatchObject({ code: 'worker_crashed' });
  expect(faultOfExit({ code: null, signal: 'SIGKILL', at: 0 }, [report], at)).toMatchObject({
    code: 'worker_crashed',
    message: 'The worker was ended by SIGKILL.',
    terminal: false,
  });
});

it('shows the last lines of a worker that crashed', () => {
  const lines = Array.from({ length: 50 }, (_, index) => `line ${index}`);
  const fault = faultOfExit({ code: 3, signal: null, at: 0 }, lines, at);
  expect(fault.message).toBe('The worker exited with status 3.');
  expect(fault.detail?.split('\n')).toEqual(lines.slice(-20));
});

it('passes on why a worker gave up on itself, whether or not the status is known', () => {
  const tail = ['loading', '{"faas": "worker_failed", "message": "Ended after 5 failures in a row."}'];
  for (const exit of [{ code: 76, signal: null, at: 0 }, undefined]) {
    const fault = faultOfExit(exit, tail, at);
    expect(fault).toMatchObject({
      code: 'worker_crashed',
      message: 'Ended after 5 failures in a row.',
      terminal: false,
    });
  }
  expect(faultOfExit({ code: 1, signal: null, at: 0 }, tail, at).message).toBe('The worker exited with status 1.');
});
