import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import { FAULT_ANNOTATION } from './labels.js';
import { notedFault, noteOf } from './noted-fault.js';

const FAULT: WorkloadFault = {
  code: 'handler_not_loadable',
  message: 'NameError: x',
  detail: 'Traceback …',
  line: 3,
  terminal: true,
  at: new Date('2026-06-01T12:00:00.000Z'),
};

const withNote = (note: string) => ({ metadata: { annotations: { [FAULT_ANNOTATION]: note } } });

describe('a noted fault', () => {
  it('is read as it was written', () => {
    expect(notedFault(withNote(noteOf(FAULT, 'hash')), 'hash')).toEqual(FAULT);
  });

  it('counts for its own spec only', () => {
    expect(notedFault(withNote(noteOf(FAULT, 'hash')), 'next')).toBeUndefined();
  });

  it.each([
    ['nothing', {}],
    ['no JSON', withNote('{')],
    ['null', withNote('null')],
    ['no fault', withNote('{"spec":"hash"}')],
    ['a fault without a message', withNote('{"spec":"hash","fault":{"at":"2026-06-01T12:00:00Z"}}')],
    ['a time that is none', withNote(JSON.stringify({ spec: 'hash', fault: { ...FAULT, at: 'yesterday' } }))],
    ['no time', withNote(JSON.stringify({ spec: 'hash', fault: { message: 'No.' } }))],
  ])('is none where somebody wrote %s', (_what, deployment) => {
    expect(notedFault(deployment, 'hash')).toBeUndefined();
  });

  it('is never a fault without a time, whatever stands there', () => {
    const note = fc.oneof(
      fc.string(),
      fc.json(),
      fc.jsonValue().map((fault) => JSON.stringify({ spec: 'hash', fault })),
    );
    fc.assert(
      fc.property(note, (text) => {
        const fault = notedFault(withNote(text), 'hash');
        if (fault !== undefined) expect(Number.isNaN(fault.at.getTime())).toBe(false);
      }),
    );
  });
});
