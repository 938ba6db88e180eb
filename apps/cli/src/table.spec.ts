import { expect, it } from 'vitest';
import { tableOf } from './table.js';

it('gives each column the width of its widest cell', () => {
  expect(
    tableOf(
      ['NAME', 'STATUS', 'LABELS'],
      [
        ['größer', 'running', ''],
        ['a', 'idle', 'k=v'],
      ],
    ),
  ).toEqual(['NAME    STATUS   LABELS', 'größer  running', 'a       idle     k=v']);
});

it('shows a head where there is nothing else', () => expect(tableOf(['NAME', 'ID'], [])).toEqual(['NAME  ID']));
