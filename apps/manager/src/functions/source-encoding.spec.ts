import { describe, expect, it } from 'vitest';
import { namesAnotherEncoding } from './source-encoding.js';

const names = (text: string) => namesAnotherEncoding(Buffer.from(text, 'latin1'));

describe('namesAnotherEncoding', () => {
  it.each([
    '# -*- coding: latin-1 -*-\nx = 1',
    '#!/usr/bin/python\n# coding: cp1252\n',
    '\t\f\r\n  # vim: set fileencoding=shift_jis :\r\n',
    '#\r#coding=koi8-r\r',
    '\u00ef\u00bb\u00bf# coding: latin-1\n',
    '# coding: nonsense\n',
  ])('is so of a file that begins with %j', (text) => expect(names(text)).toBe(true));

  it.each([
    '',
    'x = 1\n# coding: latin-1\n',
    '#\n#\n# coding: latin-1\n',
    '# coding: utf-8\n',
    '# -*- coding: UTF_8-unix -*-\n',
    '# coding: utf8\n',
    '# encoded in latin-1\n',
    'coding = "latin-1"  # coding: latin-1\n',
    `#${' '.repeat(20_000)}coding: latin-1\n`,
  ])('is not so of a file that begins with %j', (text) => expect(names(text)).toBe(false));
});
