import { describe, expect, it } from 'vitest';
import type { WorkloadFault, WorkloadFaultCode } from '#libs/orchestrator/workload.js';
import { ranked } from './faults.js';

const fault = (code: WorkloadFaultCode, second: number, terminal = false): WorkloadFault => ({
  code,
  message: `${code} at ${second}`,
  terminal,
  at: new Date(second * 1_000),
});

describe('ranked', () => {
  it('puts what can’t be helped first, then the newest, and progress last', () => {
    const order = ranked(
      [
        fault('starting', 9),
        fault('worker_crashed', 1),
        fault('out_of_memory', 2),
        fault('handler_not_loadable', 0, true),
      ],
      false,
    );
    expect(order.map(({ code }) => code)).toEqual([
      'handler_not_loadable',
      'out_of_memory',
      'worker_crashed',
      'starting',
    ]);
  });

  it('gives up no code that another replica runs, as when an import needs what is away for a moment', () => {
    const order = ranked([fault('handler_not_loadable', 0, true), fault('worker_crashed', 1)], true);
    expect(order.map(({ code, terminal }) => [code, terminal])).toEqual([
      ['worker_crashed', false],
      ['handler_not_loadable', false],
    ]);
  });
});
