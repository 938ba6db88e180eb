import { describe, expect, it } from 'vitest';
import { createProgram } from '../program.js';
import { candidatesOf } from './candidates.js';

const after = (...words: string[]) => {
  const found = candidatesOf(createProgram(), words);
  return 'words' in found ? found.words : found.ask;
};

describe('Completion', () => {
  it('offers commands, and none that is hidden', () => {
    expect(after('re')).toEqual(['revisions', 'remove']);
    expect(after('comp')).toEqual(['completion']);
    expect(after('nothing', '')).toEqual([]);
  });

  it('offers functions where one is named', () => {
    expect(after('get', '')).toBe('functions');
    expect(after('logs', '--tail', '5', 'gr')).toBe('functions');
    expect(after('rm', 'gr')).toBe('functions');
    expect(after('rollback', 'greet', '')).toEqual([]);
  });

  it('offers options, and their choices', () => {
    expect(after('logs', 'greet', '--re')).toEqual(['--revision', '--request-id']);
    expect(after('list', '--status', 'i')).toEqual(['idle']);
    expect(after('completion', '')).toEqual(['bash', 'zsh', 'fish']);
    expect(after('secrets', '')).toEqual(['set', 'remove']);
  });

  it('leaves files to the shell', () => expect(after('deploy', 'he')).toEqual([]));
});
