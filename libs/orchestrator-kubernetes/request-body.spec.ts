import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { requestBody } from './request-body.js';

/** What YAML 1.1 lets stand in a document, without the breaks that it folds: next line, line and paragraph separator. */
const PRINTABLE = /^[\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\u{10000}-\u{10ffff}]*$/u;

describe('requestBody', () => {
  it.each(['\u0085', '\u2028', '\u2029', '\u007f', '\u0090', '\ufeff', '\ufffe', '\uffff', '\0', '\r\n', '"\\'])(
    'carries %j to a reader of YAML as to one of JSON',
    (character) => {
      const code = `a = 'x ${character} y'\n`;
      const body = requestBody({ data: { 'handler.py': code } });
      expect(body).toMatch(PRINTABLE);
      expect(JSON.parse(body)).toEqual({ data: { 'handler.py': code } });
    },
  );

  it('holds for every text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (code) => {
        const body = requestBody({ code });
        expect(body).toMatch(PRINTABLE);
        expect(JSON.parse(body)).toEqual({ code });
      }),
    );
  });
});
