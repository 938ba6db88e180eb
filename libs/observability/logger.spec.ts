import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createLogger } from './logger.js';

/** What was written, by a logger of either form. */
function written(form: 'json' | 'pretty', log: (logger: ReturnType<typeof createLogger>) => void): string {
  let text = '';
  log(createLogger({ level: 'info', pretty: form === 'pretty' }, null, { write: (line) => void (text += line) }));
  return text;
}

const HOSTILE = 'a\u001b[31mred\r\n{"level":"error"}\u009b2J\u007f\u2028\u202e\u0000';
// oxlint-disable-next-line no-control-regex -- these are what must not be there
const UNPLAIN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e]/;

describe.each(['json', 'pretty'] as const)('a logger that writes %s', (form) => {
  it('writes what a peer said on one line, without what a terminal obeys', () => {
    const text = written(form, (logger) => logger.info({ reason: HOSTILE, [HOSTILE]: 1, deep: [HOSTILE] }, HOSTILE));
    expect(text.split('\n')).toHaveLength(2);
    expect(text).not.toMatch(UNPLAIN);
    expect(text).toContain('[31mred');
  });

  it('writes an error with its stack, and indents whatever its message holds', () => {
    const text = written(form, (logger) => logger.error({ err: new Error(HOSTILE) }, 'failed'));
    expect(text).not.toMatch(UNPLAIN);
    expect(text).toContain('logger.spec');
    for (const line of text.trimEnd().split('\n').slice(1)) expect(line).toMatch(/^ {4}/);
  });

  it('writes no line that is longer than a few kilobytes, whatever is logged', () => {
    const logs: ((logger: ReturnType<typeof createLogger>) => void)[] = [
      (logger) => logger.info({ reason: 'x'.repeat(1_000_000) }, 'told'),
      (logger) => logger.info({ many: Array.from({ length: 10_000 }, () => 'x') }, 'told'),
      (logger) => logger.info('x'.repeat(1_000_000)),
      (logger) => logger.error({ err: new Error('x'.repeat(1_000_000), { cause: new Error('y'.repeat(50_000)) }) }, ''),
    ];
    for (const log of logs) {
      const text = written(form, log);
      expect(text.length).toBeLessThan(10_000);
      expect(text).toMatch(/info|error|INFO|ERROR/);
    }
  });
});

describe('a logger that writes JSON', () => {
  it('writes one object a line that says what was logged', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), (text) => {
        const line = written('json', (logger) => logger.info({ text }, 'said'));
        expect(JSON.parse(line)).toMatchObject({ level: 'info', text, msg: 'said' });
      }),
    );
  });
});
