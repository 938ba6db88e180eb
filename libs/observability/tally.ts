import type { Histogram, Registry } from 'prom-client';

/** One histogram's values as prom-client writes them out. */
type Values = Awaited<ReturnType<Histogram['get']>>['values'];

/**
 * The numbers of one histogram series. prom-client finds its own by a string made of the labels, anew for every value,
 * which costs a call fifty times as much as counting does.
 */
export class Tally {
  private readonly counts: Float64Array;
  private sum = 0;

  /** `bounds`: the upper ends of the buckets, ascending; a last one without end is added. */
  constructor(private readonly bounds: readonly number[]) {
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds, counts } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket += 1;
    counts[bucket] = (counts[bucket] as number) + 1;
    this.sum += value;
  }

  values(name: string, labels: Readonly<Record<string, string>>): Values {
    let count = 0;
    const buckets = [...this.counts].map((inBucket, index) => {
      count += inBucket;
      return { metricName: `${name}_bucket`, labels: { ...labels, le: this.bounds[index] ?? '+Inf' }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: this.sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}

export interface TallySeries {
  readonly labels: Readonly<Record<string, string>>;
  readonly tally: Tally;
}

/** Makes tallies one histogram of the registry; which there are is asked at each reading. */
export function registerTallies(
  registry: Registry,
  { name, help, series }: { name: string; help: string; series: () => Iterable<TallySeries> },
): void {
  const get = () =>
    Promise.resolve({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: [...series()].flatMap(({ labels, tally }) => tally.values(name, labels)),
    });
  // A registry asks no more of a metric than its name and its values.
  registry.registerMetric({ name, get } as unknown as Histogram);
}
