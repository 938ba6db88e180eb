import { describe, expect, it } from 'vitest';
import type { WorkloadFault } from '#libs/orchestrator/workload.js';
import { Rejections } from './rejections.js';
import { FUNCTION, workloadOf } from './testing/objects.js';

const NOW = new Date('2026-06-01T12:00:00Z');
const FAULT: WorkloadFault = { code: 'rejected', message: 'No.', terminal: false, at: NOW };
const dueIn = (ms: number) => workloadOf({ replaceEndedFrom: new Date(NOW.getTime() + ms) });

describe('Rejections', () => {
  const noted = () => {
    const rejections = new Rejections();
    rejections.note(FUNCTION, 'hash', FAULT);
    return rejections;
  };

  it('tells the same refusal until the next try is due', () => {
    expect(noted().held(dueIn(1), 'hash', NOW)).toBe(FAULT);
    expect(noted().held(dueIn(0), 'hash', NOW)).toBeUndefined();
    expect(noted().held(workloadOf(), 'hash', NOW)).toBeUndefined();
  });

  it('holds nothing else back: another spec, another function, one that went well since', () => {
    expect(noted().held(dueIn(1), 'other', NOW)).toBeUndefined();
    expect(noted().held({ ...dueIn(1), functionId: 'other' }, 'hash', NOW)).toBeUndefined();
    const rejections = noted();
    rejections.forget(FUNCTION);
    expect(rejections.held(dueIn(1), 'hash', NOW)).toBeUndefined();
  });

  it('forgets the oldest of very many', () => {
    const rejections = noted();
    for (let index = 0; index < 10_000; index += 1) rejections.note(`f${index}`, 'hash', FAULT);
    expect(rejections.held(dueIn(1), 'hash', NOW)).toBeUndefined();
    expect(rejections.held({ ...dueIn(1), functionId: 'f9999' }, 'hash', NOW)).toBe(FAULT);
  });
});
