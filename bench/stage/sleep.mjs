import { setTimeout as delay } from 'node:timers/promises';

const EVERY_MS = 50;
const PATIENCE_MS = 60_000;

/**
 * Makes the manager believe that nobody has called the function for an hour, and waits until it has put it to sleep
 * for that. Said again and again, because the manager notes the calls before it a little later.
 */
export async function untilAsleep(manager, id) {
  const until = performance.now() + PATIENCE_MS;
  while ((await manager.detail(id)).status !== 'idle') {
    if (performance.now() > until) throw new Error(`Function ${id} does not fall asleep.`);
    await manager.query(`UPDATE functions SET last_used_at = now() - interval '1 hour' WHERE id = $1`, [id]);
    await delay(EVERY_MS);
  }
}
