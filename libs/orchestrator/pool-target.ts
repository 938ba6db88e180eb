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
/** Memory of an idle generic worker; in a container it shares little of it. */
const MEMBER_MIB = 48;
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
