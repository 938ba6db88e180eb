import { describe, expect, it } from 'vitest';
import { parseFaasFile } from './faas-file.js';

const faults = (text: string): string => {
  try {
    parseFaasFile(text, 'faas.yaml');
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('It was taken.');
};

/** Aliases of aliases of aliases. */
const BOMB = [
  'a: &a [x]',
  ...'abcdef'.split('').map((of, at) => `${'bcdefg'[at]}: &${'bcdefg'[at]} [${`*${of},`.repeat(9)}]`),
].join('\n');

describe('faas.yaml', () => {
  it('says what a function is', () => {
    const text = `# Ours
file: greet.py
name: greet
handler: handle
description: Greets
labels: {team: web}
timeout_ms: 5000
invocation_defaults: {max_attempts: 5, retry_on: [crash], max_age_ms: null}
max_replicas: null
env:
  GREETING: Hello
`;
    expect(parseFaasFile(text, 'faas.yaml')).toEqual({
      file: 'greet.py',
      name: 'greet',
      handler: 'handle',
      description: 'Greets',
      labels: { team: 'web' },
      invocation_defaults: { max_attempts: 5, retry_on: ['crash'] },
      settings: { timeout_ms: 5000, max_replicas: null, env: { GREETING: 'Hello' } },
    });
  });

  it('has every fault named at once, with its line and the field that was meant', () => {
    expect(
      faults('file: a.py\ntimout_ms: 1\nlables: {}\nmemory_mib: 1.5\nenv: {PORT: 80}\nsomething: 1\nname: [a]\n'),
    ).toBe(
      `faas.yaml:2: unknown field "timout_ms"; did you mean "timeout_ms"?
faas.yaml:3: unknown field "lables"; did you mean "labels"?
faas.yaml:4: "memory_mib" must be a whole number
faas.yaml:5: "env" must be a map of texts: put the value of PORT in quotes
faas.yaml:6: unknown field "something"
faas.yaml:7: "name" must be a text`,
    );
  });

  it.each(['', '- a\n', 'text\n'])('must hold fields, unlike %j', (text) =>
    expect(faults(text)).toMatch(/must hold fields/),
  );

  it.each([
    ['a: [\n', /^faas\.yaml:\d+: /],
    ['name: a\nname: b\n', /^faas\.yaml:2: .*unique$/],
    ['file: a.py\n---\nfile: b.py\n', /^faas\.yaml:2: there may be one document/],
    ['? [a]\n: b\n', /^faas\.yaml: a field must have a name/],
    ['name: *nothing\n', /^faas\.yaml/],
    [BOMB, /^faas\.yaml can't be read: Excessive alias count/],
  ])('must be YAML, unlike %j', (text, message) => expect(faults(text)).toMatch(message));
});
