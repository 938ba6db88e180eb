import { readFileSync } from 'node:fs';
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
public: true
history: {payloads: 0.5, redact: []}
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
      public: true,
      history: { payloads: 0.5, redact: [] },
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

  it('knows all that an upload brings along', () => {
    const { components } = JSON.parse(readFileSync('openapi.json', 'utf8')) as {
      components: { schemas: Record<string, { properties: object }> };
    };
    // The file and the callable have fields of their own; a function that is deployed is to be called.
    const others = new Set(['code', 'function_name', 'enabled']);
    const members = Object.keys(components.schemas['JsonUploadDto']!.properties).filter((name) => !others.has(name));
    expect(faults(members.map((name) => `${name}: [[]]\n`).join(''))).not.toContain('unknown');
  });

  it.each([
    ['history: 1', '"history" must be a map'],
    ['history: {payload: 1}', '"history" has no field "payload"'],
    ['history: {payloads: 2}', '"history.payloads" must be a number from 0 to 1'],
    ['history: {redact: card}', '"history.redact" must be a list of texts'],
    ['public: "yes"', '"public" must be true or false'],
    ['constructor: 1', 'unknown field "constructor"'],
  ])('is refused where it says %s', (text, reason) => expect(faults(text)).toBe(`faas.yaml:1: ${reason}`));

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
