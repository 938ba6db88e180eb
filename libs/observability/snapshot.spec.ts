import { Counter, Gauge, Histogram } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { Metrics } from './metrics.js';
import { cumulative, type Snapshot, sumOf, textOf, withoutForgotten } from './snapshot.js';
import { HistogramSeries } from './histogram-series.js';

/** What a process that answered `calls` calls of a function has counted, as it arrives elsewhere. */
async function processWith(calls: number, id = 'a'): Promise<Snapshot> {
  const metrics = new Metrics();
  const registers = [metrics.registry];
  const count = new Counter({ name: 'calls_total', help: 'Calls.', labelNames: ['function'], registers });
  const duration = new Histogram({ name: 'step_seconds', help: 'Steps.', buckets: [1], registers });
  new Gauge({ name: 'waiting', help: 'Waiting.', registers }).set(calls);
  new Gauge({ name: 'functions', help: 'Functions.', aggregator: 'max', registers }).set(3);
  const histogram = new HistogramSeries([0.1]);
  for (let call = 0; call < calls; call += 1) {
    count.inc({ function: id });
    duration.observe(0.5);
    histogram.observe(0.05);
  }
  metrics.addHistogram({
    name: 'call_seconds',
    help: 'Time.',
    series: () => [{ labels: { function: id }, histogram }],
  });
  return structuredClone(await metrics.snapshot());
}

describe('snapshots of several processes', () => {
  it('add up, but for what each of them says of the whole', async () => {
    const text = await textOf([await processWith(2), await processWith(3), await processWith(1, 'b')]);
    for (const line of [
      'calls_total{function="a"} 5',
      'calls_total{function="b"} 1',
      'step_seconds_bucket{le="1"} 6',
      'step_seconds_count 6',
      'waiting 6',
      'functions 3',
      'call_seconds_bucket{function="a",le="0.1"} 5',
      'call_seconds_count{function="b"} 1',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
    expect(text).toMatch(/^process_resident_memory_bytes \d+$/m);
    expect(text.match(/^# TYPE call_seconds histogram$/gm)).toHaveLength(1);
  });

  it('are one again when there is one', async () => {
    const metrics = new Metrics();
    const histogram = new HistogramSeries([0.1]);
    histogram.observe(1);
    metrics.addHistogram({ name: 'seconds', help: 'Time.', series: () => [{ labels: {}, histogram }] });
    const own = (text: string) =>
      text.split('\n').filter((line) => line.includes('seconds') && !/process|nodejs/.test(line));
    expect(own(await textOf([await metrics.snapshot()]))).toEqual(own(await metrics.text()));
  });

  it('keep of a process that ended what only ever grows, as long as a living one knows the function', async () => {
    const ended = await sumOf([{ metrics: [], histograms: [] }, cumulative(await processWith(2))]);
    const living = await processWith(3);
    const text = await textOf([living, withoutForgotten(ended, [living])]);
    expect(text).toContain('calls_total{function="a"} 5\n');
    expect(text).toContain('call_seconds_count{function="a"} 5\n');
    expect(text).toContain('step_seconds_count 5\n');
    expect(text).toContain('waiting 3\n');
    const other = await processWith(1, 'b');
    const without = await textOf([other, withoutForgotten(ended, [other])]);
    expect(without).not.toContain('function="a"');
    expect(without).toContain('step_seconds_count 3\n');
  });
});
