import { readFileSync } from 'node:fs';
import { familyOf, processEntries } from './process-family.js';

const LOOK_MS = 200;
const PAGE_BYTES = 4096;

/** Watches what containers take of the memory, as a control group would limit it. */
export class MemoryLimits {
  private readonly limits = new Map<number, { readonly bytes: number; readonly onExceeded: () => void }>();
  private timer: NodeJS.Timeout | undefined;

  watch(leader: number, bytes: number, onExceeded: () => void): void {
    this.limits.set(leader, { bytes, onExceeded });
    this.timer ??= setInterval(() => this.look(), LOOK_MS);
  }

  forget(leader: number): void {
    this.limits.delete(leader);
    if (this.limits.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private look(): void {
    const entries = processEntries();
    for (const [leader, { bytes, onExceeded }] of this.limits) {
      const family = familyOf(leader, entries);
      // The exact figure costs more, so it is asked for only where it may matter.
      if (sum(family, residentBytes) <= bytes || sum(family, proportionalBytes) <= bytes) continue;
      this.forget(leader);
      onExceeded();
    }
  }
}

function sum(pids: readonly number[], bytesOf: (pid: number) => number): number {
  return pids.reduce((total, pid) => total + bytesOf(pid), 0);
}

function residentBytes(pid: number): number {
  return Number(read(`/proc/${pid}/statm`).split(' ')[1] ?? 0) * PAGE_BYTES;
}

/** What processes share is counted for each of them by its part. */
function proportionalBytes(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
