import { cumulative, type Snapshot, sumOf, textOf, withoutForgotten } from '#libs/observability/snapshot.js';
import type { Worker } from 'node:cluster';
import type { ToPrimary, ToProcess } from './messages.js';

/** A process that is too busy to answer within this time is counted as it was at its last answer. */
const ANSWER_MS = 3_000;

/**
 * Adds up the metrics of all processes. It runs in the primary, which serves no calls that would have to wait for it.
 * What a process had counted before it ended stays in the sums: a counter that went down would look like a restart.
 */
export class MetricsAggregator {
  private readonly latest = new Map<number, Snapshot>();
  private readonly asked = new Map<number, (snapshot: Snapshot | undefined) => void>();
  /** The first is the sum of those that ended before the last reading. */
  private ofEnded: readonly Snapshot[] = [];
  private tickets = 0;
  private reading: Promise<string> | undefined;

  constructor(private readonly processes: () => readonly Worker[]) {}

  /** A message of a process: it asks for the sums, or answers with its own numbers. */
  receive(worker: Worker, message: ToPrimary): void {
    if (message.kind === 'snapshot') {
      this.asked.get(message.ticket)?.(message.snapshot);
      return;
    }
    const { ticket } = message;
    // Requests at the same time share one reading.
    this.reading ??= this.read().finally(() => (this.reading = undefined));
    void this.reading.then((text) => send(worker, { kind: 'scraped', ticket, text }));
  }

  ended(id: number): void {
    const last = this.latest.get(id);
    if (last === undefined) return;
    this.latest.delete(id);
    this.ofEnded = [...this.ofEnded, cumulative(last)];
  }

  private async read(): Promise<string> {
    await Promise.all(this.processes().map((worker) => this.refresh(worker)));
    const living = [...this.latest.values()];
    const ended = this.ofEnded;
    const sum = withoutForgotten(await sumOf(ended), living);
    // More processes may have ended meanwhile; what they counted is still in `living` this time.
    this.ofEnded = [sum, ...this.ofEnded.slice(ended.length)];
    return textOf([...living, sum]);
  }

  private async refresh(worker: Worker): Promise<void> {
    const ticket = (this.tickets += 1);
    const { promise, resolve } = Promise.withResolvers<Snapshot | undefined>();
    const late = setTimeout(() => resolve(undefined), ANSWER_MS);
    const gone = () => resolve(undefined);
    worker.once('exit', gone);
    this.asked.set(ticket, resolve);
    send(worker, { kind: 'take_snapshot', ticket });
    const snapshot = await promise;
    clearTimeout(late);
    worker.off('exit', gone);
    this.asked.delete(ticket);
    if (snapshot !== undefined && !worker.isDead()) this.latest.set(worker.id, snapshot);
  }
}

/** A process that has just ended can't be sent anything, which is harmless. */
function send(worker: Worker, message: ToProcess): void {
  if (worker.isConnected()) worker.send(message, () => undefined);
}
