import { cpus } from 'node:os';

interface Times {
  readonly idle: number;
  readonly all: number;
}

/** Tells how busy this machine's processors are. */
export class IdleProcessors {
  private last = timesOf();

  /** The share of their time in which they had nothing to do since this was asked last, 0 to 1. */
  share(): number {
    const now = timesOf();
    const { idle, all } = this.last;
    if (now.all === all) return 1;
    this.last = now;
    return (now.idle - idle) / (now.all - all);
  }
}

function timesOf(): Times {
  const sum = { idle: 0, all: 0 };
  for (const { times } of cpus()) {
    sum.idle += times.idle;
    sum.all += times.user + times.nice + times.sys + times.idle + times.irq;
  }
  return sum;
}
