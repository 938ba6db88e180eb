import { expect, it } from 'vitest';
import { targetOf, trafficOf } from './traffic.command.js';

it.each([
  ['3=90', { revision: 3, percent: 90 }],
  ['4=10:canary', { revision: 4, percent: 10, tag: 'canary' }],
  ['4=0:next-one', { revision: 4, percent: 0, tag: 'next-one' }],
])('reads a target from %s', (text, target) => expect(targetOf(text)).toEqual(target));

it.each(['3', '3=', '=90', 'x=90', '3=90%', '3=90:', '3:canary=90'])('reads none from %s', (text) =>
  expect(() => targetOf(text)).toThrow(/must be auto or/),
);

it('is automatic, or divided', () => {
  const target = { revision: 1, percent: 100 };
  expect(trafficOf(['auto'])).toEqual({ mode: 'auto' });
  expect(trafficOf([target])).toEqual({ targets: [target] });
  expect(() => trafficOf(['auto', target])).toThrow(/not both/);
});
