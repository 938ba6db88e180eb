import type { Config } from './config.js';
import { largestRequestBytes } from './load-config.js';

/** PostgreSQL is asked for by the loop and by requests at once. */
const FEWEST_CONNECTIONS = 2;

/**
 * What one of several processes gets of what the configuration bounds, so that together they use no more than one
 * manager would. What can't be parted (one worker kept ready, one step at a time) each of them has.
 */
export function shareOf(config: Config, processes: number): Config {
  const part = (whole: number) => Math.ceil(whole / processes);
  const { database, invocations, limits, orchestrator, reconcile } = config;
  const largest = largestRequestBytes(limits.payloadBytes, limits.uploadBytes);
  return {
    ...config,
    database: { ...database, poolSize: Math.max(FEWEST_CONNECTIONS, part(database.poolSize)) },
    limits: {
      ...limits,
      queuePerFunction: part(limits.queuePerFunction),
      webSockets: part(limits.webSockets),
      webSocketsPerFunction: part(limits.webSocketsPerFunction),
      heldBytes: Math.max(largest, part(limits.heldBytes)),
    },
    invocations: { ...invocations, concurrency: part(invocations.concurrency) },
    orchestrator: {
      ...orchestrator,
      pool: { ...orchestrator.pool, size: part(orchestrator.pool.size) },
      clusterPoolSize: part(orchestrator.clusterPoolSize),
    },
    reconcile: { ...reconcile, concurrency: part(reconcile.concurrency) },
  };
}
