import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { credentialsPath, readCredentials, writeCredentials } from './credentials.js';

describe('Stored credentials', () => {
  const folder = mkdtempSync(join(tmpdir(), 'faas-credentials-'));
  const path = credentialsPath({ XDG_CONFIG_HOME: folder });
  afterAll(() => rmSync(folder, { recursive: true }));

  it('are read as they were written, by their user alone', () => {
    expect(readCredentials(path)).toBeUndefined();
    writeCredentials({ url: 'http://one', key: 'secret' }, path);
    writeCredentials({ url: 'http://two' }, path);
    expect(readCredentials(path)).toEqual({ url: 'http://two' });
    expect((statSync(path).mode & 0o777).toString(8)).toBe('600');
    expect(readdirSync(dirname(path))).toEqual(['config.json']);
  });

  it.each(['', '{"url": 1}', '{"url": "http://x", "key": {}}'])('are refused where they are damaged: %s', (text) => {
    writeFileSync(path, text);
    expect(() => readCredentials(path)).toThrow(/is damaged/);
  });
});
