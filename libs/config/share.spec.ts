import { describe, expect, it } from 'vitest';
import { loadConfig } from './load-config.js';
import { shareOf } from './share.js';

const MIB = 1024 * 1024;

describe('what one of several processes gets', () => {
  const config = loadConfig({
    MANAGER_WORKERS: '4',
    DATABASE_POOL_SIZE: '10',
    QUEUE_PER_FUNCTION: '256',
    MAX_HELD_BYTES: String(400 * MIB),
    WARM_POOL_SIZE: '8',
    RECONCILE_CONCURRENCY: '16',
  });

  it('is its part of the connections, the queues, the memory, the workers kept ready and the steps', () => {
    const share = shareOf(config, 4);
    expect(share.database.poolSize).toBe(3);
    expect(share.limits).toMatchObject({ queuePerFunction: 64, heldBytes: 100 * MIB });
    expect(share.orchestrator.pool).toEqual({ ...config.orchestrator.pool, size: 2 });
    expect(share.reconcile).toEqual({ ...config.reconcile, concurrency: 4 });
    expect(share.invocations).toEqual({ ...config.invocations, concurrency: 64 });
  });

  it('is never too little for one request, one step or one worker kept ready, and never what nobody asked for', () => {
    const share = shareOf(config, 64);
    expect(share.database.poolSize).toBe(2);
    expect(share.limits).toMatchObject({ queuePerFunction: 4, heldBytes: 37 * MIB });
    expect(share.orchestrator.pool.size).toBe(1);
    expect(share.reconcile.concurrency).toBe(1);
    const none = shareOf(loadConfig({ WARM_POOL_SIZE: '0', QUEUE_PER_FUNCTION: '0' }), 2);
    expect(none.orchestrator.pool.size).toBe(0);
    expect(none.limits.queuePerFunction).toBe(0);
  });

  it('is everything for one that is alone, and leaves what belongs to a function as it is', () => {
    expect(shareOf(config, 1)).toEqual(config);
    const { functions, scale, server, metrics } = shareOf(config, 4);
    expect({ functions, scale, server, metrics }).toEqual({
      functions: config.functions,
      scale: config.scale,
      server: config.server,
      metrics: config.metrics,
    });
  });
});
