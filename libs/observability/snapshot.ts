import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue } from 'prom-client';
import { type HistogramCounts, HistogramSeries, type HistogramFamily, writeHistogram } from './histogram-series.js';

type Metric = MetricObjectWithValues<MetricValue<string>>;
type Labels = Readonly<Record<string, string>>;

/** What one process has counted and measured, as values that can be sent and added up. */
export interface Snapshot {
  readonly metrics: readonly Metric[];
  readonly histograms: readonly CountedFamily[];
}

interface CountedFamily {
  readonly name: string;
  readonly help: string;
  readonly series: readonly { readonly labels: Labels; readonly counted: HistogramCounts }[];
}

export function countedFamily({ name, help, series }: HistogramFamily): CountedFamily {
  return {
    name,
    help,
    series: [...series()].map(({ labels, histogram }) => ({ labels, counted: histogram.counted() })),
  };
}

/** All of them together in Prometheus's text format: each metric by the way it says of itself, most are summed. */
export async function textOf(snapshots: readonly Snapshot[]): Promise<string> {
  const { metrics, histograms } = await sumOf(snapshots);
  const text = await AggregatorRegistry.aggregate([[...metrics]]).metrics();
  return [text, ...histograms.map((family) => writeHistogram(asFamily(family)))].join('\n');
}

export async function sumOf(snapshots: readonly Snapshot[]): Promise<Snapshot> {
  const all = snapshots.map(({ metrics }) => [...metrics]);
  const families = Map.groupBy(
    snapshots.flatMap(({ histograms }) => histograms),
    ({ name }) => name,
  );
  return {
    metrics: await AggregatorRegistry.aggregate(all).getMetricsAsJSON(),
    histograms: [...families.values()].map(sumOfFamilies),
  };
}

/** What only ever grows, and so must not vanish with the process that counted it. */
export function cumulative({ metrics, histograms }: Snapshot): Snapshot {
  return {
    metrics: metrics.filter(({ type }) => String(type) === 'counter' || String(type) === 'histogram'),
    histograms,
  };
}

/** Without the series of functions that `others` know nothing of: those take their series along when they go. */
export function withoutForgotten(snapshot: Snapshot, others: readonly Snapshot[]): Snapshot {
  const known = new Set(others.flatMap(functionsIn));
  const isKept = (labels: MetricValue<string>['labels'] | Labels) =>
    labels['function'] === undefined || known.has(String(labels['function']));
  return {
    metrics: snapshot.metrics.map((metric) => ({
      ...metric,
      values: metric.values.filter(({ labels }) => isKept(labels)),
    })),
    histograms: snapshot.histograms.map((family) => ({
      ...family,
      series: family.series.filter(({ labels }) => isKept(labels)),
    })),
  };
}

function functionsIn({ metrics, histograms }: Snapshot): string[] {
  const labels = [
    ...metrics.flatMap(({ values }) => values.map((value) => value.labels['function'])),
    ...histograms.flatMap(({ series }) => series.map((one) => one.labels['function'])),
  ];
  return labels.filter((label) => label !== undefined).map(String);
}

function sumOfFamilies(families: readonly CountedFamily[]): CountedFamily {
  const [{ name, help }] = families as [CountedFamily];
  const sums = new Map<string, { labels: Labels; histogram: HistogramSeries }>();
  for (const { labels, counted } of families.flatMap(({ series }) => series)) {
    const key = JSON.stringify(Object.entries(labels));
    const sum = sums.get(key) ?? { labels, histogram: new HistogramSeries(counted.bounds) };
    sum.histogram.add(counted);
    sums.set(key, sum);
  }
  return countedFamily({ name, help, series: () => sums.values() });
}

function asFamily({ name, help, series }: CountedFamily): HistogramFamily {
  const histograms = series.map(({ labels, counted }) => {
    const histogram = new HistogramSeries(counted.bounds);
    histogram.add(counted);
    return { labels, histogram };
  });
  return { name, help, series: () => histograms };
}
