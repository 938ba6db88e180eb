import fc from 'fast-check';
import { Histogram, Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { registerTallies, Tally } from './tally.js';

const BOUNDS = [0.005, 0.1, 2.5];

describe('Tally', () => {
  it('writes out, line by line, what a histogram of prom-client does for the same values', async () => {
    const value = fc.oneof(fc.constantFrom(...BOUNDS, 0), fc.double({ min: 0, max: 10, noNaN: true }));
    await fc.assert(
      fc.asyncProperty(fc.array(value, { minLength: 1 }), async (values) => {
        const [ours, theirs] = [new Registry(), new Registry()];
        const tally = new Tally(BOUNDS);
        const labels = { function: 'a "quoted" one' };
        registerTallies(ours, { name: 'seconds', help: 'Time.', series: () => [{ labels, tally }] });
        const histogram = new Histogram({
          name: 'seconds',
          help: 'Time.',
          labelNames: ['function'],
          buckets: BOUNDS,
          registers: [theirs],
        });
        for (const one of values) {
          tally.observe(one);
          histogram.observe(labels, one);
        }
        expect(linesOf(await ours.metrics())).toEqual(linesOf(await theirs.metrics()));
      }),
    );
  });

  it('shows the series there are at each reading', async () => {
    const registry = new Registry();
    const present = new Map([['a', new Tally(BOUNDS)]]);
    const series = () => [...present].map(([name, tally]) => ({ labels: { name }, tally }));
    registerTallies(registry, { name: 'seconds', help: 'Time.', series });
    expect(await registry.metrics()).toContain('seconds_count{name="a"} 0');
    present.delete('a');
    expect(await registry.metrics()).not.toContain('name="a"');
  });
});

/** The order of labels means nothing. */
function linesOf(text: string): string[] {
  return text.split('\n').map((line) => line.replace(/\{(.*)\}/, (_, labels: string) => sorted(labels)));
}

function sorted(labels: string): string {
  return labels
    .split(/,(?=\w+=)/)
    .toSorted()
    .join(',');
}
