import { LONGEST_REQUIREMENTS } from '#libs/config/config.js';
import { describe, expect, it } from 'vitest';
import { parseRequirements } from './requirements.js';

const HASH = `--hash=sha256:${'a'.repeat(64)}`;
/** As many as a package with wheels for all platforms has. */
const HASHES = Array.from({ length: 120 }, () => `    ${HASH}`).join(' \\\n');
const OTHER_HASH = `--hash=sha256:${'b'.repeat(64)}`;

const linesOf = (text: string) => {
  const parsed = parseRequirements(text);
  if ('fault' in parsed) throw new Error(parsed.fault);
  return parsed.lines;
};
const faultOf = (text: string) => {
  const parsed = parseRequirements(text);
  return 'fault' in parsed ? parsed.fault : undefined;
};

describe('Requirements', () => {
  it('are names with extras, versions and markers, said in one way', () => {
    const text = `
# comment
requests  # for calls
uvicorn[ standard ] >= 0.30 , < 1
numpy ( ==2.* ) ; python_version >= "3.11" and sys_platform == 'linux'
a==1.0.post1 \\
  ; os_name != "nt"
`;
    expect(linesOf(text).split('\n')).toEqual([
      'requests',
      'uvicorn[standard]>=0.30,<1',
      'numpy==2.* ; python_version >= "3.11" and sys_platform == \'linux\'',
      'a==1.0.post1 ; os_name != "nt"',
      '',
    ]);
    expect(linesOf(' \r\n# none\r\n')).toBe('');
  });

  it('end with their line where a comment does with a backslash', () => {
    expect(linesOf('# from C:\\wheels\\\nrequests # why \\\nidna')).toBe('requests\nidna\n');
    expect(linesOf('a==1 \\\n# why \\\nb')).toBe('a==1\nb\n');
  });

  it('are a lock where each is pinned and has hashes', () => {
    const lock = `idna==3.11 \\\n    ${HASH} \\\n    ${OTHER_HASH}\n`;
    const parsed = parseRequirements(lock);
    expect(parsed).toMatchObject({ isLock: true });
    expect(linesOf(lock)).toBe(`idna==3.11 \\\n    ${HASH} \\\n    ${OTHER_HASH}\n`);
    expect(linesOf(linesOf(lock))).toBe(linesOf(lock));
    expect(parseRequirements('idna==3.11')).toMatchObject({ isLock: false });
    expect(faultOf(`idna==3.11 ${HASH}\nrequests`)).toMatch(/some have hashes/);
    expect(faultOf(`idna>=3 ${HASH}`)).toMatch(/some have hashes/);
  });

  it('may name URLs, which is told of for where they are not taken', () => {
    const url = 'https://example.org/a/pkg-1.0-py3-none-any.whl';
    const named = parseRequirements(`idna\npkg[x]@${url} ; python_version > "3"`);
    expect(named).toMatchObject({
      lines: `idna\npkg[x] @ ${url} ; python_version > "3"\n`,
      isLock: false,
      urlFault: expect.stringMatching(/^requirements, line 2: .*names a URL/) as string,
    });
    expect(parseRequirements(`pkg @ ${url} ${HASH}`)).toMatchObject({ isLock: true });
    expect(linesOf(`pkg @ ${url}#sha256=${'0'.repeat(64)}`)).toBe(`pkg @ ${url}#sha256=${'0'.repeat(64)}\n`);
    expect(parseRequirements('idna')).not.toHaveProperty('urlFault');
  });

  it.each([
    ['-r other.txt', /line 1: options such as/],
    ['ok\n\n-e .', /line 3: options such as/],
    ['--index-url https://example.org', /options/],
    ['pkg[x]@file:///etc/passwd', /names a URL/],
    ['git+https://example.org/pkg', /names a repository/],
    ['pkg @ git+https://example.org/pkg', /names a repository/],
    ['pkg @ https://user:word@example.org/pkg.whl', /names a URL/],
    ['pkg @ https://example.org/${UV_DEFAULT_INDEX}', /names a URL/],
    ['pkg @ http://example.org/pkg.whl', /names a URL/],
    ['pkg @ https://example.org/pkg.whl#egg=pkg', /names a URL/],
    ['https://example.org/pkg.whl', /names a URL/],
    ['./pkg', /names a file/],
    ['/etc/passwd', /names a file/],
    ['~/pkg', /names a file/],
    ['pkg-1.0-py3-none-any.whl', /names a file/],
    ['pkg.tar.gz', /names a file/],
    ['C:\\pkg', /names a (file|URL)/],
    ['two words', /is no requirement/],
    ['pkg==', /is no requirement/],
    ['pkg; $(id)', /is no requirement/],
    ['pkg==1 --hash=md5:00', /is no requirement/],
    ['pkg\0', /no text/],
    ['x'.repeat(LONGEST_REQUIREMENTS + 1), /characters, and may have/],
  ])('refuse %j', (text, why) => {
    expect(faultOf(text)).toMatch(why);
  });

  it('may be a lock of many packages', () => {
    const lock = Array.from({ length: 100 }, (_, at) => `pkg${at}==1.0 \\\n${HASHES}\n`).join('');
    expect(lock.length).toBeGreaterThan(LONGEST_REQUIREMENTS * 0.95);
    expect(linesOf(lock)).toBe(lock);
    const longer = `${lock}${'x'.repeat(LONGEST_REQUIREMENTS)}`;
    expect(faultOf(longer)).toBe(`requirements has ${longer.length} characters, and may have ${LONGEST_REQUIREMENTS}.`);
  });

  it('are read in little time, whatever they hold', () => {
    const beganAt = performance.now();
    for (const text of [
      `a${' '.repeat(1_000_000)}!`,
      `a[${'b,'.repeat(500_000)}`,
      `${'a-'.repeat(500_000)}!`,
      'a==1,'.repeat(200_000),
      `a;${'b '.repeat(500_000)}!`,
      `a;${`b${HASH} `.repeat(10_000)}!`,
      `a @ https://b/${'c'.repeat(1_000_000)}!`,
      ' # a'.repeat(250_000),
      `a==1${` ${HASH}`.repeat(13_000)} !`,
      'a\\\n'.repeat(19_000),
    ])
      expect(faultOf(text) ?? linesOf(text)).toBeDefined();
    expect(performance.now() - beganAt).toBeLessThan(10_000);
  });
});
