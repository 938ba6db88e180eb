import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { createProgram } from '../program.js';
import {
  addSettings,
  checkedValue,
  HISTORY,
  INVOCATION_DEFAULTS,
  type Setting,
  SETTINGS,
  settingsOf,
} from './settings.js';

interface Document {
  readonly components: { readonly schemas: Record<string, { readonly properties: Record<string, unknown> }> };
}

function parsed(args: readonly string[], settings: readonly Setting[] = SETTINGS) {
  const command = addSettings(new Command().exitOverride().configureOutput({ outputError: () => undefined }), settings);
  command.parse(args, { from: 'user' });
  return settingsOf(command.opts(), settings);
}

describe('Settings', () => {
  it('are all that a revision takes', () => {
    const { components } = JSON.parse(readFileSync('openapi.json', 'utf8')) as Document;
    const members = Object.keys(components.schemas['JsonRevisionUploadDto']!.properties);
    const others = new Set(['function_name', 'code', 'message']);
    expect(SETTINGS.map(({ name }) => name).toSorted()).toEqual(members.filter((name) => !others.has(name)).toSorted());
  });

  it('of calls for later are all that a function keeps for them', () => {
    const { components } = JSON.parse(readFileSync('openapi.json', 'utf8')) as Document;
    const members = Object.keys(components.schemas['InvocationPolicyDto']!.properties);
    expect(INVOCATION_DEFAULTS.map(({ name }) => name).toSorted()).toEqual(members.toSorted());
    const flags = ['--max-attempts', '5', '--retry-on', 'error,crash', '--callback-format', 'binary'];
    expect(parsed(flags, INVOCATION_DEFAULTS)).toEqual({
      max_attempts: 5,
      retry_on: ['error', 'crash'],
      callback_format: 'binary',
    });
    expect(parsed(['--retry-on', 'none'], INVOCATION_DEFAULTS)).toEqual({ retry_on: [] });
    const url = 'https://example.org/hook';
    expect(parsed(['--callback-url', url], INVOCATION_DEFAULTS)).toEqual({ callback_url: url });
    expect(parsed(['--callback-url', 'none'], INVOCATION_DEFAULTS)).toEqual({ callback_url: null });
  });

  it('of the history are all that a function has for it', () => {
    const { components } = JSON.parse(readFileSync('openapi.json', 'utf8')) as Document;
    const members = Object.keys(components.schemas['HistorySettingDto']!.properties);
    expect(HISTORY.map(({ name }) => name).toSorted()).toEqual(members.toSorted());
    const kept = parsed(['--payloads', '.5', '--redact', 'card,pin'], HISTORY);
    expect(kept).toEqual({ payloads: 0.5, redact: ['card', 'pin'] });
    for (const bad of ['2', '1e-1', 'half']) {
      expect(() => parsed(['--payloads', bad], HISTORY)).toThrow(/must be a number from 0 to 1/);
    }
  });

  it('of schedules are all that one takes', () => {
    const { components } = JSON.parse(readFileSync('openapi.json', 'utf8')) as Document;
    const members = Object.keys(components.schemas['SetScheduleDto']!.properties);
    const schedules = createProgram().commands.find((one) => one.name() === 'schedules')!;
    const flags = new Set(schedules.options.map(({ long }) => long));
    const missing = members.filter((name) => !flags.has(`--${name.replaceAll('_', '-')}`));
    // The other way round: --disabled.
    expect(missing).toEqual(['enabled']);
  });

  it('are read from flags, and left out where they are not given', () => {
    expect(parsed([])).toEqual({});
    expect(parsed(['--timeout-ms', '5000', '--env', 'A=1', '--env', 'B=x=y', '--env', 'C='])).toEqual({
      timeout_ms: 5000,
      env: { A: '1', B: 'x=y', C: '' },
    });
  });

  it('name secrets for variables and for files', () => {
    expect(parsed(['--secrets', 'DB_PASSWORD=db-password', '--secrets', 'tls.pem=file:db-cert'])).toEqual({
      secrets: { DB_PASSWORD: 'db-password', 'tls.pem': { file: 'db-cert' } },
    });
    const secrets = SETTINGS.find(({ name }) => name === 'secrets')!;
    const good = { A: 'a', 'b.pem': { file: 'b' } };
    expect(checkedValue(secrets, good)).toEqual({ value: good });
    for (const bad of ['a', ['a'], { A: 1 }, { A: {} }, { A: { file: 1 } }, { A: { file: 'a', mode: 7 } }]) {
      expect(checkedValue(secrets, bad)).toMatchObject({ fault: expect.stringContaining('names of secrets') });
    }
  });

  it.each([
    ['--timeout-ms', '5s'],
    ['--memory-mib', '-1'],
    ['--env', 'A'],
    ['--env', '=1'],
  ])('are refused as %s %s', (flag, value) => expect(() => parsed([`${flag}=${value}`])).toThrow(/must be/));

  it('of text are read from the file that the flag names', () => {
    const folder = mkdtempSync(join(tmpdir(), 'faas-settings-'));
    const path = join(folder, 'some.txt');
    writeFileSync(path, 'one\ntwo\n');
    const settings: Setting[] = [{ name: 'long_text', kind: 'text', what: '' }];
    expect(parsed(['--long-text', path], settings)).toEqual({ long_text: 'one\ntwo\n' });
    rmSync(folder, { recursive: true });
    expect(() => parsed(['--long-text', path], settings)).toThrow(/can't be read/);
  });
});
