import type { PlainLine } from '#libs/orchestrator/replica-log.js';

const REMEMBERED = 4_096;

/**
 * Lines of a followed log that the engine sends again: those of some versions (20.10 among them) do so with the last ones
 * of a file that they rotate. Only a line whose very time was there before counts, for a clock may be set back.
 */
export class RepeatedLines {
  private readonly streams = new Map<PlainLine['stream'], Newest>();

  has(line: PlainLine): boolean {
    const newest = this.streams.get(line.stream) ?? new Newest();
    this.streams.set(line.stream, newest);
    return newest.repeats(line);
  }
}

/** The last lines of one stream. */
class Newest {
  private readonly ring = new Float64Array(REMEMBERED).fill(-1);
  private next = 0;
  private time = '';
  private text = '';

  repeats({ time, text }: PlainLine): boolean {
    // The nanoseconds of a day are a whole number here. Texts would keep the lines that they were cut out of.
    const moment = Number(time.slice(11).replaceAll(/\D/g, ''));
    if (time === this.time ? text === this.text : time < this.time && this.ring.includes(moment)) return true;
    if (time >= this.time) [this.time, this.text] = [time, text];
    this.ring[this.next++ % REMEMBERED] = moment;
    return false;
  }
}
