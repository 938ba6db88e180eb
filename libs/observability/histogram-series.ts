/**
 * The numbers of one histogram series. prom-client finds its own by a string made of the labels, anew for every value,
 * which costs a call fifty times as much as counting does; and writing out those of many functions would keep calls
 * waiting for tens of milliseconds.
 */
export class HistogramSeries {
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

  /** Adds what another one with the same bounds has counted. */
  add({ counts, sum }: HistogramCounts): void {
    counts.forEach((count, index) => (this.counts[index] = (this.counts[index] ?? 0) + count));
    this.sum += sum;
  }

  /** What it has counted, fit to be sent to another process. */
  counted(): HistogramCounts {
    return { bounds: this.bounds, counts: [...this.counts], sum: this.sum };
  }

  /** Its samples in Prometheus's text format, under a name and labels that are written already. */
  samples(name: string, labels: string): string {
    const comma = labels === '' ? '' : ',';
    const braced = labels === '' ? '' : `{${labels}}`;
    let text = '';
    let count = 0;
    this.counts.forEach((inBucket, index) => {
      count += inBucket;
      text += `${name}_bucket{${labels}${comma}le="${this.bounds[index] ?? '+Inf'}"} ${count}\n`;
    });
    return `${text}${name}_sum${braced} ${this.sum}\n${name}_count${braced} ${count}\n`;
  }
}

export interface HistogramCounts {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
}

export interface HistogramFamily {
  readonly name: string;
  readonly help: string;
  /** Asked at each reading. */
  readonly series: () => Iterable<{
    readonly labels: Readonly<Record<string, string>>;
    readonly histogram: HistogramSeries;
  }>;
}

/** One histogram with all its series in Prometheus's text format. */
export function writeHistogram({ name, help, series }: HistogramFamily): string {
  let text = `# HELP ${name} ${help}\n# TYPE ${name} histogram\n`;
  for (const { labels, histogram } of series()) {
    const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escaped(value)}"`);
    text += histogram.samples(name, pairs.join(','));
  }
  return text;
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}
