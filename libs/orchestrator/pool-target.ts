/** How far beyond its configured size a pool grows with the demand. */
const MOST_GROWTH = 4;
/** What was taken within this time is likely to be taken again. */
export const DEMAND_WINDOW_MS = 20_000;

export interface PoolDemand {
  /** The configured size: what is kept ready when nothing happens. */
  readonly size: number;
  /** Workers asked for within the window, whether there was one or not. */
  readonly recent: number;
  /** Workers there is memory for beyond those of the pool; below zero when there are too many of those. */
  readonly room: number;
  /** Workers of the pool there are now. */
  readonly members: number;
}

/** How many generic workers to have. */
export function poolTarget({ size, recent, room, members }: PoolDemand): number {
  const wanted = Math.min(Math.max(size, recent), size * MOST_GROWTH);
  return Math.max(0, Math.min(wanted, members + room));
}

const MIB = 1024 * 1024;
/** Memory that a machine has less for each idle generic worker, with what the engine has for it: measured on Docker. */
const MEMBER_MIB = 26;
/** Of a machine's memory, what waiting workers may take unless the configuration says how many there shall be. */
const SHARE_OF_MACHINE = 1 / 16;
const FEWEST_BY_MEMORY = 4;
const MOST_BY_MEMORY = 64;

/** How many generic workers a machine with so much memory keeps ready by default. */
export function poolSizeFor(machineBytes: number): number {
  const size = Math.floor((machineBytes * SHARE_OF_MACHINE) / (MEMBER_MIB * MIB));
  return Math.min(Math.max(size, FEWEST_BY_MEMORY), MOST_BY_MEMORY);
}

/** The rest of the free memory is for the workers that serve. */
const SHARE_OF_FREE = 0.25;

/**
 * How many more generic workers so much free memory has room for. What the pool's own members hold counts as free: where
 * memory gets short the pool gives back, and what it gave back is no reason to grow.
 */
export function roomIn(freeBytes: number, members: number): number {
  const held = members * MEMBER_MIB * MIB;
  return Math.max(0, Math.floor(((freeBytes + held) * SHARE_OF_FREE) / (MEMBER_MIB * MIB))) - members;
}
