import { describe, expect, it } from 'vitest';
import { environmentFault, LARGEST_ENVIRONMENT } from './environment.js';

describe('environmentFault', () => {
  it.each([
    [{}],
    [{ GREETING: 'Hello', _x: '', a1: 'é😀\n"$(HOME)" $$' }],
    [{ FAAS_EVENT_LOOP: 'asyncio', MY_PYTHONPATH: 'x', PATHS: 'x' }],
    [{ A: 'x'.repeat(LARGEST_ENVIRONMENT - 1) }],
    [{ ['A'.repeat(255)]: 'x' }],
  ])('lets %j pass', (environment) => {
    expect(environmentFault(environment)).toBeUndefined();
  });

  it.each([
    [undefined, 'must be a JSON object'],
    [null, 'must be a JSON object'],
    [[], 'must be a JSON object'],
    ['A=1', 'must be a JSON object'],
    [{ A: 1 }, 'value of "A" must be a string'],
    [{ A: null }, 'value of "A" must be a string'],
    [{ A: 'x\0' }, 'are no text'],
    [{ A: '\ud800' }, 'are no text'],
    [{ '': 'x' }, 'the name ""'],
    [{ 'A=B': 'x' }, 'the name "A=B"'],
    [{ '1A': 'x' }, 'the name "1A"'],
    [{ ['A'.repeat(256)]: 'x' }, 'A" is longer than 255 characters'],
    [{ A: 'x'.repeat(LARGEST_ENVIRONMENT) }, `may have ${LARGEST_ENVIRONMENT}`],
    [{ FAAS_EVENT_LOOP: 'gevent' }, 'must be uvloop or asyncio'],
  ])('refuses %j', (environment, told) => {
    expect(environmentFault(environment)).toContain(told);
  });

  it.each([
    'FAAS_FUNCTION',
    'FAAS_',
    'HANDLER_FUNCTION',
    'PYTHONPATH',
    'PYTHONHOME',
    'LD_PRELOAD',
    'PATH',
    'HOME',
    'TMPDIR',
  ])('keeps %s for the worker', (name) => {
    expect(environmentFault({ [name]: 'x' })).toContain('reserved');
  });
});
