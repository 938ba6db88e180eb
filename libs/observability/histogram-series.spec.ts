import fc from 'fast-check';
import { Histogram, Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { HistogramSeries, writeHistogram } from './histogram-series.js';

const BOUNDS = [0.005, 0.1, 2.5];

describe('HistogramSeries', () => {
  it('writes out, line by line, what a histogram of prom-client does for the same values', async () => {
    const value = fc.oneof(fc.constantFrom(...BOUNDS, 0), fc.double({ min: 0, max: 10, noNaN: true }));
    const label = fc.oneof(fc.string(), fc.constant('a "quoted" one, \\ and\nmore'));
    await fc.assert(
      fc.asyncProperty(fc.array(value, { minLength: 1 }), label, async (values, name) => {
        const registry = new Registry();
        const series = new HistogramSeries(BOUNDS);
        const histogram = new Histogram({
          name: 'seconds',
          help: 'Time.',
          labelNames: ['name'],
          buckets: BOUNDS,
          registers: [registry],
        });
        for (const one of values) {
          series.observe(one);
          histogram.observe({ name }, one);
        }
        const all = () => [{ labels: { name }, histogram: series }];
        const ours = writeHistogram({ name: 'seconds', help: 'Time.', series: all });
        const theirs = await registry.metrics();
        // The order of labels means nothing.
        expect(ours).toBe(theirs.replaceAll(/\{(le="[^"]+"),(name="(?:[^"\\]|\\.)*")\}/g, '{$2,$1}'));
      }),
    );
  });

  it('writes series without labels as prom-client does', async () => {
    const registry = new Registry();
    const histogram = new Histogram({ name: 's', help: 'Time.', buckets: BOUNDS, registers: [registry] });
    const series = new HistogramSeries(BOUNDS);
    for (const one of [histogram, series]) one.observe(0.1);
    const all = () => [{ labels: {}, histogram: series }];
    expect(writeHistogram({ name: 's', help: 'Time.', series: all })).toBe(await registry.metrics());
  });
});
