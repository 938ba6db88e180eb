import { LONGEST_REQUIREMENTS } from '#libs/config/config.js';
import { describe, expect, it } from 'vitest';
import { metadataIn } from './script-metadata.js';

const block = (...lines: readonly string[]) =>
  ['# /// script', ...lines.map((line) => (line === '' ? '#' : `# ${line}`)), '# ///', 'x = 1'].join('\n');

describe('Script metadata', () => {
  it('names packages and Pythons', () => {
    const found = metadataIn(
      block(
        'requires-python = ">=3.11, <4"',
        '',
        'dependencies = [',
        '  "requests<3", # calls',
        "  'rich',",
        ']',
        '[tool.uv]',
        'x',
      ),
    );
    expect(found).toEqual({ lines: 'requests<3\nrich\n', isLock: false, requiresPython: '>=3.11,<4' });
    expect(metadataIn(block('dependencies = []'))).toMatchObject({ lines: '', requiresPython: '' });
  });

  it('is read of lists and texts as TOML has them', () => {
    const texts = block('dependencies = ["a\t>=1", \'b\t; os_name == "nt"\', "c; os_name == \\"nt\\""]');
    expect(metadataIn(texts)).toMatchObject({ lines: 'a>=1\nb ; os_name == "nt"\nc ; os_name == "nt"\n' });
    expect(metadataIn(`\uFEFF${block('dependencies = ["a"]')}`)).toMatchObject({ lines: 'a\n' });
  });

  it('may name URLs, which is told of for where they are not taken', () => {
    expect(metadataIn(block('dependencies = ["a @ https://example.org/a-1.0-py3-none-any.whl"]'))).toMatchObject({
      lines: 'a @ https://example.org/a-1.0-py3-none-any.whl\n',
      urlFault: expect.stringMatching(/PEP 723.*names a URL/) as string,
    });
  });

  it('is none where there is no whole block of its kind', () => {
    for (const code of [
      '',
      'x = 1',
      '# /// script\nx = 1\n# ///',
      '# /// other\n# a = 1\n# ///',
      '#/// script\n# ///',
    ]) {
      expect(metadataIn(code)).toBeUndefined();
    }
  });

  it('goes on to the last closing line of its comment', () => {
    expect(metadataIn('# /// script\n# ///\n# # more\n# ///\n')).toHaveProperty('fault');
  });

  it.each([
    [`${block('dependencies = []')}\n${block('dependencies = []')}`, /more than one block/],
    [block('dependencies = ["a"'), /can't be read/],
    [block('dependencies = "a"'), /can't be read/],
    [block('dependencies = ["a', 'b"]'), /can't be read/],
    [block("dependencies = ['a", "b']"), /can't be read/],
    [block('dependencies = ["a\u0001"]'), /can't be read/],
    [block('dependencies = ["a\\\\", "b"]'), /can't be read/],
    [block('dependencies = ["git+https://example.org/a"]'), /names a repository/],
    [block('dependencies = ["a --hash=sha256:00"]'), /can't be read/],
    [block('dependencies = ["a"]', 'dependencies = ["b"]'), /names dependencies twice/],
    [block('requires-python = ">=3; import os"'), /can't be read/],
    [block('other = 1'), /unknown member "other"/],
    [block(`dependencies = ["${'a'.repeat(LONGEST_REQUIREMENTS)}"]`), /more than 1048576 characters/],
  ])('is refused where it can’t be read: %#', (code, why) => {
    expect(metadataIn(code)).toEqual({ fault: expect.stringMatching(why) as string });
  });

  it('is looked for in little time, whatever the code holds', () => {
    const beganAt = performance.now();
    expect(metadataIn('# /// script\n'.repeat(200_000))).toBeUndefined();
    expect(metadataIn(`# /// script\n${'# dependencies = [\n'.repeat(1_500)}# ///\n`)).toHaveProperty('fault');
    const long = `"a",`.repeat(8);
    expect(metadataIn(block('dependencies = [', ...Array.from({ length: 1_900 }, () => long)))).toHaveProperty('fault');
    expect(metadataIn(block('dependencies = [', ...Array.from({ length: 1_200 }, () => long), ']'))).toHaveProperty(
      'lines',
    );
    expect(performance.now() - beganAt).toBeLessThan(2_000);
  });
});
