import { expect, it } from 'vitest';
import { excerptOf, tracebackOf } from './python-fault.js';

it("shows a traceback in terms of the user's own file", () => {
  const traceback = '  File "/tmp/x/app/function/handler.py", line 4\n  File "/usr/lib/python3/json.py", line 1\n';
  expect(tracebackOf(traceback, 'my $& greeter.py')).toBe(
    '  File "my $& greeter.py", line 4\n  File "/usr/lib/python3/json.py", line 1\n',
  );
});

it('shows the lines around the one at fault, whatever ends them', () => {
  expect(excerptOf('a\r\nb\nc\rd\ne\nf', 4)).toEqual([
    { number: 2, text: 'b' },
    { number: 3, text: 'c' },
    { number: 4, text: 'd' },
    { number: 5, text: 'e' },
    { number: 6, text: 'f' },
  ]);
  expect(excerptOf('a\nb', 1).map(({ number }) => number)).toEqual([1, 2]);
  expect(excerptOf('a', 9)).toEqual([]);
});
