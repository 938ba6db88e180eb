import { describe, expect, it } from 'vitest';
import { answered, DEFAULT_URL, findCredentials, managerUrl } from './connection.js';
import { Failure } from './failure.js';

const STORED = { url: 'https://faas.example', key: 'stored' };
const stored = () => STORED;
const nothing = () => undefined;

describe('The manager and the key', () => {
  it('are those of the environment, of faas login, or the default', () => {
    expect(findCredentials({}, nothing)).toEqual({ url: DEFAULT_URL });
    expect(findCredentials({}, stored)).toEqual(STORED);
    expect(findCredentials({ FAAS_API_KEY: 'given' }, stored)).toEqual({ ...STORED, key: 'given' });
    expect(findCredentials({ FAAS_URL: 'http://other:1/', FAAS_API_KEY: 'given' }, stored)).toEqual({
      url: 'http://other:1',
      key: 'given',
    });
    expect(findCredentials({ FAAS_URL: '', FAAS_API_KEY: '' }, stored)).toEqual(STORED);
  });

  it('stay together: a stored key is sent to no other manager', () => {
    expect(findCredentials({ FAAS_URL: 'https://faas.example.org' }, stored)).toEqual({
      url: 'https://faas.example.org',
    });
    expect(findCredentials({ FAAS_URL: 'https://faas.example/' }, stored)).toEqual(STORED);
  });

  it.each(['faas.example', 'ftp://faas.example', 'http://me:secret@faas.example', 'http://faas.example/?a=b'])(
    'are refused as %s',
    (url) => expect(() => managerUrl(url)).toThrow(Failure),
  );

  it('may have a path', () => expect(managerUrl('https://example.org/faas/')).toBe('https://example.org/faas'));
});

it('shows no key that it refuses', () => {
  for (const FAAS_API_KEY of ['two words', 'secret\n', 'schlüssel']) {
    expect(() => findCredentials({ FAAS_API_KEY }, nothing)).toThrow(/^A key has neither blanks nor/);
  }
});

describe('An answer', () => {
  const kindOf = async (said: unknown, response?: Response) => {
    const failure: unknown = await answered(Promise.resolve({ error: said, response })).catch(
      (thrown: unknown) => thrown,
    );
    return failure instanceof Failure ? failure.kind : failure;
  };

  it('of something else than a manager is a failure of its own', async () => {
    expect(await kindOf('<html>', new Response('<html>', { status: 502 }))).toBe('unavailable');
    expect(await kindOf('<html>', new Response('<html>', { status: 418 }))).toBe('usage');
    expect(await kindOf('', new Response(null, { status: 308, headers: { location: 'https://x' } }))).toBe('usage');
    expect(await kindOf(new SyntaxError('Unexpected token'), new Response('<html>'))).toBe('unexpected');
    expect(await kindOf(new Error('aborted'), new Response('{'))).toBe('unavailable');
    expect(await kindOf(new Failure('unavailable', 'nobody'))).toBe('unavailable');
    const page = answered(Promise.resolve({ data: '<html>', response: new Response('<html>') }));
    await expect(page).rejects.toMatchObject({ kind: 'unexpected' });
  });
});
