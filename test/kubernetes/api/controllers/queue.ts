/**
 * Keys to be looked at, each once however often it was named meanwhile, and one at a time. A look may ask for another
 * after a while; one that throws is repeated, later and later.
 */
export class Queue {
  private readonly pending = new Set<string>();
  private readonly timers = new Map<string, { readonly timer: NodeJS.Timeout; readonly at: number }>();
  private readonly failures = new Map<string, number>();
  private scheduled = false;
  private closed = false;
  private readonly look: (key: string) => void;

  constructor(look: (key: string) => void) {
    this.look = look;
  }

  add(key: string): void {
    if (this.closed) return;
    this.pending.add(key);
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => this.run());
  }

  addAfter(key: string, ms: number): void {
    const at = Date.now() + ms;
    const earlier = this.timers.get(key);
    if (this.closed || (earlier !== undefined && earlier.at <= at)) return;
    clearTimeout(earlier?.timer);
    const timer = setTimeout(() => {
      this.timers.delete(key);
      this.add(key);
    }, ms);
    this.timers.set(key, { timer, at });
  }

  close(): void {
    this.closed = true;
    this.pending.clear();
    for (const { timer } of this.timers.values()) clearTimeout(timer);
  }

  private run(): void {
    this.scheduled = false;
    const keys = [...this.pending];
    this.pending.clear();
    for (const key of keys) {
      if (this.closed) return;
      try {
        this.look(key);
        this.failures.delete(key);
      } catch {
        const failures = (this.failures.get(key) ?? 0) + 1;
        this.failures.set(key, failures);
        this.addAfter(key, Math.min(5 * 2 ** failures, 2_000));
      }
    }
  }
}

/** `namespace/name` */
export function keyOf({
  metadata,
}: {
  readonly metadata: { readonly namespace?: string; readonly name: string };
}): string {
  return `${metadata.namespace ?? ''}/${metadata.name}`;
}

export function splitKey(key: string): [namespace: string, name: string] {
  const [namespace = '', name = ''] = key.split('/');
  return [namespace, name];
}
