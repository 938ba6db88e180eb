import type { LogRecordDto } from './dto/log-record.dto.js';

/** What one answer may keep until it is sent. */
const MOST_CHARACTERS = 4 * 1024 * 1024;
/** A record's other members, and what the engine of JavaScript adds. */
const OVERHEAD = 300;

/** The newest records of those that come in order, as many as were asked for and as there is room for. */
export class NewestRecords {
  private records: LogRecordDto[] = [];
  private first = 0;
  private held = 0;
  private most = 0;
  /** How many of those that were asked for had no room. */
  private left = 0;

  /** @param grew told by how much more is held than ever before */
  constructor(
    private readonly tail: number,
    private readonly grew: (characters: number) => void,
  ) {}

  add(record: LogRecordDto): void {
    if (this.tail === 0) return;
    this.records.push(record);
    this.held += record.line.length + OVERHEAD;
    if (this.count > this.tail) this.dropFirst();
    while (this.held > MOST_CHARACTERS && this.count > 1) {
      this.dropFirst();
      this.left += 1;
    }
    if (this.held <= this.most) return;
    this.grew(this.held - this.most);
    this.most = this.held;
  }

  /** With those of replicas that are gone, which are older for the most part. */
  with(earlier: readonly LogRecordDto[]): { missed: number; records: LogRecordDto[] } {
    const own = this.records.slice(this.first);
    // What had no room stands between those and these.
    const all = [...(this.left > 0 ? [] : earlier), ...own].toSorted((a, b) =>
      a.time < b.time ? -1 : Number(a.time > b.time),
    );
    const records = this.tail === 0 ? [] : all.slice(-this.tail);
    return { missed: Math.min(this.left, this.tail - own.length), records };
  }

  private get count(): number {
    return this.records.length - this.first;
  }

  private dropFirst(): void {
    this.held -= (this.records[this.first]?.line.length ?? 0) + OVERHEAD;
    this.first += 1;
    // Cut now and then, for taking the first one off costs as much as all the others do.
    if (this.first < 1_000 || this.first < this.count) return;
    this.records = this.records.slice(this.first);
    this.first = 0;
  }
}
