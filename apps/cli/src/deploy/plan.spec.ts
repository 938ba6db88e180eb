import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Failure } from '../failure.js';
import { changesOf } from './deploy.js';
import { nameOf, planOf } from './plan.js';

describe('What is deployed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'faas-plan-'));
  const at = (name: string) => join(folder, name);
  beforeAll(() => {
    writeFileSync(at('my_greeter.py'), '\uFEFFdef handle(p): return p\n');
    writeFileSync(at('latin.py'), Buffer.from([0x23, 0xe4]));
    writeFileSync(at('notes.txt'), '');
    writeFileSync(
      at('faas.yaml'),
      'file: my_greeter.py\nname: greet\nlabels: {a: b}\npublic: true\nhistory: {payloads: 1}\ntimeout_ms: 1\nenv: {A: "1"}\n',
    );
    writeFileSync(at('without.yaml'), 'name: greet\n');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('is a Python file, by its own name and byte for byte', async () => {
    const plan = await planOf(at('my_greeter.py'), { timeoutMs: 5, label: { c: 'd' } });
    expect(plan).toMatchObject({
      name: 'my-greeter',
      code: '\uFEFFdef handle(p): return p\n',
      labels: { values: { c: 'd' }, alone: false },
      settings: { timeout_ms: 5 },
    });
  });

  it('is what a faas.yaml says, and flags before it', async () => {
    const plan = await planOf(folder, {
      name: 'other',
      timeoutMs: 5,
      env: { B: '2' },
      label: { c: 'd' },
      redact: ['card'],
    });
    expect(plan).toMatchObject({
      name: 'other',
      public: true,
      labels: { values: { a: 'b', c: 'd' }, alone: true },
      history: { values: { payloads: 1, redact: ['card'] }, alone: true },
      settings: { timeout_ms: 5, env: { A: '1', B: '2' } },
    });
    expect(await planOf(folder, { public: false })).toMatchObject({ public: false });
    expect(plan.path).toMatch(/my_greeter\.py$/);
  });

  it.each([
    ['nothing.py', 'not_found'],
    ['notes.txt', 'usage'],
    ['latin.py', 'usage'],
    ['without.yaml', 'usage'],
  ])('is not %s', async (name, kind) => {
    const failure = await planOf(at(name), {}).catch((error: unknown) => error as Failure);
    expect(failure).toMatchObject({ kind });
  });

  it.each([
    ['a/b/Hello World.v2.py', 'hello-world-v2'],
    ['__init__.py', 'init'],
    [`${'x'.repeat(80)}.py`, 'x'.repeat(63)],
  ])('is named after its file: %s', (path, name) => expect(nameOf(path)).toBe(name));

  it.each(['', '.', '..'])('has no name such as %j', async (name) => {
    await expect(planOf(at('my_greeter.py'), { name })).rejects.toMatchObject({ kind: 'usage' });
  });

  it('needs a name where its file has none', () => expect(() => nameOf('___.py')).toThrow(Failure));
});

describe('An update', () => {
  const former = {
    description: 'Old',
    public: false,
    labels: { a: '1', b: '2' },
    invocation_defaults: { max_attempts: 5 },
    history: { payloads: 1 },
  };

  it('leaves labels that no flag names', () => {
    expect(changesOf({ labels: { values: { a: '9', c: '3' }, alone: false } }, former)).toEqual({
      labels: { a: '9', c: '3' },
    });
  });

  it('takes labels away that faas.yaml names no more', () => {
    expect(changesOf({ labels: { values: { a: '1' }, alone: true } }, former)).toEqual({ labels: { b: null } });
  });

  it('changes defaults of calls for later as it does labels', () => {
    const wanted = (values: object, alone: boolean) => changesOf({ invocation_defaults: { values, alone } }, former);
    expect(wanted({ retry_on: ['crash'] }, false)).toEqual({ invocation_defaults: { retry_on: ['crash'] } });
    expect(wanted({ retry_on: [] }, true)).toEqual({ invocation_defaults: { retry_on: [], max_attempts: null } });
    expect(wanted({ max_attempts: 5 }, true)).toBeUndefined();
  });

  it('takes away a callback, where there is one', () => {
    const defaults = { values: { callback_url: null }, alone: false };
    const told = { ...former, invocation_defaults: { callback_url: 'https://example.org/hook' } };
    expect(changesOf({ invocation_defaults: defaults }, told)).toEqual({ invocation_defaults: { callback_url: null } });
    expect(changesOf({ invocation_defaults: defaults }, former)).toBeUndefined();
  });

  it('changes what is kept of calls, and who may make them', () => {
    const history = { values: { redact: ['card'] }, alone: true };
    expect(changesOf({ history, public: true }, former)).toEqual({
      public: true,
      history: { redact: ['card'], payloads: null },
    });
    expect(changesOf({ history: { values: { payloads: 1 }, alone: true }, public: false }, former)).toBeUndefined();
  });

  it('changes nothing that is as it should be', () => {
    expect(changesOf({ description: 'Old', labels: { values: { a: '1' }, alone: false } }, former)).toBeUndefined();
    expect(changesOf({ description: 'New' }, former)).toEqual({ description: 'New' });
  });
});
