import { setTimeout as delay } from 'node:timers/promises';

const EVERY_MS = 50;
/** A pool replaces what was taken after a moment, so one look could come before it has begun. */
const LOOKS = 3;
const PATIENCE_MS = 60_000;

/**
 * Waits until the engine has nothing to do: every worker without a function is up, and no worker of a function is
 * left (or as many as there should be). What was measured last would otherwise disturb what is measured next.
 */
export async function untilQuiet(engine, { others = 0, generic = 0 } = {}) {
  const until = performance.now() + PATIENCE_MS;
  let last = -1;
  for (let looks = 0; looks < LOOKS; await delay(EVERY_MS)) {
    const seen = await engine.census();
    const isQuiet = seen.areUp && seen.generic >= generic && seen.others === others && seen.generic === last;
    looks = isQuiet ? looks + 1 : 0;
    last = seen.generic;
    if (performance.now() > until) throw new Error(`The engine never came to rest: ${JSON.stringify(seen)}`);
  }
}
