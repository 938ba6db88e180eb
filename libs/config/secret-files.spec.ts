import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InvalidConfig, loadConfig } from './load-config.js';

const KEY = 'a-key-of-sixteen';
const SERVER = { POSTGRES_HOST: 'db', POSTGRES_USER: 'u', POSTGRES_DB: 'd' };

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'secrets-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(content: string | Buffer): string {
  const path = join(folder, String(Math.random()));
  writeFileSync(path, content);
  return path;
}

function faultsOf(variables: NodeJS.ProcessEnv): readonly string[] {
  try {
    loadConfig(variables);
    return [];
  } catch (error) {
    if (error instanceof InvalidConfig) return error.faults;
    throw error;
  }
}

describe('a secret in a file', () => {
  it('counts as if its variable held it, without the line break at its end', () => {
    expect(loadConfig({ API_KEYS_FILE: fileOf(`${KEY},${KEY}2\n`) }).auth).toEqual(
      loadConfig({ API_KEYS: `${KEY},${KEY}2` }).auth,
    );
    const url = 'postgres://u:p@h:1/d';
    expect(loadConfig({ DATABASE_URL_FILE: fileOf(`${url}\r\n`) }).database).toMatchObject({ url });
    expect(loadConfig({ ...SERVER, POSTGRES_PASSWORD_FILE: fileOf(' a b \n') }).database).toMatchObject({
      url: 'postgresql://u:%20a%20b%20@db:5432/d',
    });
    const registry = { HARBOR_URL: 'https://harbor', HARBOR_USER: 'u', HARBOR_PASS_FILE: fileOf('secret') };
    expect(loadConfig(registry).orchestrator.docker.registry).toMatchObject({ password: 'secret' });
  });

  it('is unset by an empty path, as every variable is', () => {
    expect(loadConfig({ API_KEYS_FILE: '', API_KEYS: KEY }).auth.keys).toMatchObject([{ secret: KEY }]);
  });

  it('is not given twice', () => {
    expect(faultsOf({ API_KEYS: KEY, API_KEYS_FILE: fileOf(`${KEY}2`) })).toEqual([
      'API_KEYS_FILE contradicts API_KEYS: remove one',
    ]);
  });

  it('is missed by name, whatever stands at its path', () => {
    const missing = join(folder, 'missing');
    const pipe = join(folder, 'pipe');
    execFileSync('sh', ['-c', 'mkfifo "$0"', pipe]);
    expect(faultsOf({ API_KEYS_FILE: missing })).toEqual([
      `API_KEYS_FILE names a file that can't be read: ${missing} does not exist`,
    ]);
    for (const path of [folder, pipe, '/dev/zero']) {
      expect(faultsOf({ API_KEYS_FILE: path })).toEqual([expect.stringContaining('it is no ordinary file')]);
    }
    for (const empty of ['', '\n', ' \n']) {
      expect(faultsOf({ API_KEYS_FILE: fileOf(empty) })).toEqual([
        expect.stringMatching(/^API_KEYS_FILE names an empty file/),
      ]);
    }
    expect(faultsOf({ API_KEYS_FILE: fileOf(Buffer.alloc(70_000, 'k')) })[0]).toMatch(/more than 65536 bytes/);
    expect(faultsOf({ API_KEYS_FILE: fileOf('a\0b') })[0]).toMatch(/is no text/);
  });

  it('is at fault beside all else that is, and for nothing that follows from it', () => {
    const missing = join(folder, 'missing');
    const faults = faultsOf({
      ...SERVER,
      POSTGRES_PASSWORD_FILE: missing,
      API_KEYS_FILE: missing,
      LISTEN_ADDR: '10.0.0.1:80',
      LOG_LEVEL: 'loud',
      HARBOR_URL: 'https://harbor',
    });
    expect(faults.map((fault) => fault.split(/[ ,]/)[0])).toEqual([
      'API_KEYS_FILE',
      'POSTGRES_PASSWORD_FILE',
      'LOG_LEVEL',
      'HARBOR_URL',
    ]);
  });

  it('stays out of the faults', () => {
    const faults = faultsOf({ API_KEYS_FILE: fileOf('hush'), DATABASE_URL_FILE: fileOf('hush') });
    expect(faults).toHaveLength(2);
    expect(faults.join()).not.toContain('hush');
  });
});
