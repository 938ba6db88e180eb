import { setTimeout as delay } from 'node:timers/promises';

const EVERY_MS = 50;
/** A pool replaces what was taken after a moment, so one look could come before it has begun. */
const LOOKS = 3;
const PATIENCE_MS = 60_000;
const POOL_PATIENCE_MS = 120_000;

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

/** Waits until a manager's pool has all the workers that it wants, or so large a part of them. */
export async function untilPoolIsFull(manager, part = 1) {
  const until = performance.now() + POOL_PATIENCE_MS;
  for (;;) {
    const text = await (await fetch(`${manager.origin}/metrics`)).text();
    const [ready, target] = ['ready', 'target'].map((name) =>
      Number(new RegExp(`^faas_pool_${name} (\\d+)`, 'm').exec(text)?.[1]),
    );
    if (ready > 0 && ready >= target * part) return;
    if (performance.now() > until) throw new Error(`The pool never came to be full: ${ready} of ${target}.`);
    await delay(100);
  }
}
