import type { Snapshot } from '#libs/observability/snapshot.js';

/** From one of the processes to the primary; `ticket` tells answers apart. */
export type ToPrimary =
  | { readonly kind: 'scrape'; readonly ticket: number }
  | { readonly kind: 'snapshot'; readonly ticket: number; readonly snapshot: Snapshot };

/** From the primary to one of the processes. */
export type ToProcess =
  | { readonly kind: 'take_snapshot'; readonly ticket: number }
  | { readonly kind: 'scraped'; readonly ticket: number; readonly text: string };
