const MOST_MARKS = 600;

/** Remembers when a growing file had which size: the lines in it carry no time of their own. */
export class LogMarks {
  private marks: { size: number; at: number }[] = [];

  note(size: number, at: number): void {
    const last = this.marks.at(-1);
    if (last !== undefined && size < last.size) this.marks = [];
    if (last === undefined || size !== last.size) this.marks.push({ size, at });
    // Every other one goes: older lines are then known less exactly, and none becomes younger than it is.
    if (this.marks.length > MOST_MARKS) this.marks = this.marks.filter((_, index) => index % 2 === 1);
  }

  /** The earliest moment at which the file is known to have been this long. */
  timeOf(size: number): number | undefined {
    return this.marks.find((mark) => mark.size >= size)?.at;
  }
}
