import { expect, it } from 'vitest';
import { sinceOf } from './logs.command.js';

const NOW = Date.parse('2026-02-01T00:00:00Z');

it.each([
  ['90s', '2026-01-31T23:58:30.000Z'],
  ['10m', '2026-01-31T23:50:00.000Z'],
  ['2h', '2026-01-31T22:00:00.000Z'],
  ['1d', '2026-01-31T00:00:00.000Z'],
  ['2026-01-31T12:00:00+01:00', '2026-01-31T12:00:00+01:00'],
])('takes %s', (text, since) => expect(sinceOf(text, NOW)).toBe(since));

it.each(['10', 'yesterday', '1w', '-1h'])('refuses %s', (text) => expect(() => sinceOf(text, NOW)).toThrow(/duration/));
