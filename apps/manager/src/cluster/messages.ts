import type { Snapshot } from '#libs/observability/snapshot.js';

/** From a process to the primary. `ticket` matches an answer to its request. */
export type ToPrimary =
  | { readonly kind: 'scrape'; readonly ticket: number }
  | { readonly kind: 'snapshot'; readonly ticket: number; readonly snapshot: Snapshot };

/** From the primary to a process. */
export type ToProcess =
  | { readonly kind: 'take_snapshot'; readonly ticket: number }
  | { readonly kind: 'scraped'; readonly ticket: number; readonly text: string };
