import { request } from 'node:http';
import type { EndpointAddress, EndpointGuard, FunctionId } from './workload.js';

/** What the prober believes of one replica: not yet ready, ready, or ready once and silent since. */
export type ReplicaHealth = 'starting' | 'ready' | 'unhealthy';

const FIRST_INTERVAL_MS = 10;
const SLOWEST_START_INTERVAL_MS = 250;
const LIVENESS_INTERVAL_MS = 10_000;
const PROBE_TIMEOUT_MS = 2_000;
const FAILURES_UNTIL_UNHEALTHY = 3;

/** A worker's `/health` is a few hundred bytes; handler code that answers in its stead may send anything. */
const LARGEST_HEALTH_BYTES = 64 * 1024;

/** One `GET /health`: good only for a 200 whose body says `"status": "ok"`. Never throws. */
export async function probeHealth(
  address: EndpointAddress,
): Promise<{ readonly good: boolean; readonly guard: EndpointGuard | undefined }> {
  const health = await getHealth(address, PROBE_TIMEOUT_MS);
  return { good: health?.['status'] === 'ok', guard: guardOf(health) };
}

/** Our own worker tells its protocol, and from the first one on it refuses calls that name another function. */
function guardOf(health: Record<string, unknown> | null): EndpointGuard | undefined {
  const worker = health?.['worker'] as { readonly protocol?: unknown } | null | undefined;
  return typeof worker?.protocol === 'number' && worker.protocol >= 1 ? 'worker' : undefined;
}

/** The document of `GET /health`, or null when there is none within the time: no answer, not 200, no JSON object, too large. */
export function getHealth(address: EndpointAddress, timeoutMs: number): Promise<Record<string, unknown> | null> {
  const target = address.kind === 'tcp' ? { host: address.host, port: address.port } : { socketPath: address.path };
  return new Promise((resolve) => {
    const outgoing = request(
      { ...target, path: '/health', agent: false, signal: AbortSignal.timeout(timeoutMs) },
      (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > LARGEST_HEALTH_BYTES) outgoing.destroy();
          else chunks.push(chunk);
        });
        response.on('error', () => resolve(null));
        response.on('close', () => resolve(null));
        response.on('end', () => resolve(response.statusCode === 200 ? objectOf(Buffer.concat(chunks)) : null));
      },
    );
    outgoing.on('error', () => resolve(null));
    outgoing.end();
  });
}

function objectOf(body: Buffer): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

interface Tracked {
  readonly functionId: FunctionId;
  readonly address: EndpointAddress;
  health: ReplicaHealth;
  guard: EndpointGuard | undefined;
  failures: number;
  intervalMs: number;
  first?: Promise<void>;
  timer?: NodeJS.Timeout;
}

/**
 * Probes replicas in the background, quickly until the first success and slowly afterwards, and tells the provider
 * when its belief about one changes. Holds no engine objects: the provider tracks and forgets replicas as it sees them.
 */
export class HealthProber {
  private readonly replicas = new Map<string, Tracked>();

  constructor(private readonly onChange: (functionId: FunctionId) => void) {}

  /** Starts probing a replica; does nothing when it is tracked already. */
  track(replica: string, functionId: FunctionId, address: EndpointAddress): void {
    if (this.replicas.has(replica)) return;
    const tracked: Tracked = {
      functionId,
      address,
      health: 'starting',
      guard: undefined,
      failures: 0,
      intervalMs: FIRST_INTERVAL_MS,
    };
    this.replicas.set(replica, tracked);
    tracked.first = this.probe(replica, tracked);
  }

  /** Resolves after a replica's first probe, so that one adopted from a former manager shows its endpoint at once. */
  async probed(replica: string): Promise<void> {
    await this.replicas.get(replica)?.first;
  }

  health(replica: string): ReplicaHealth {
    return this.replicas.get(replica)?.health ?? 'starting';
  }

  /** Who sees to it that the replica gets its own function's calls only, as its last good answer tells. */
  guard(replica: string): EndpointGuard | undefined {
    return this.replicas.get(replica)?.guard;
  }

  /** Stops probing a replica that is gone or leaving. */
  forget(replica: string): void {
    clearTimeout(this.replicas.get(replica)?.timer);
    this.replicas.delete(replica);
  }

  close(): void {
    for (const replica of [...this.replicas.keys()]) this.forget(replica);
  }

  private async probe(replica: string, tracked: Tracked): Promise<void> {
    const { good, guard } = await probeHealth(tracked.address);
    if (this.replicas.get(replica) !== tracked) return;
    const before = tracked.health;
    if (good) {
      tracked.guard = guard;
      tracked.health = 'ready';
      tracked.failures = 0;
      tracked.intervalMs = LIVENESS_INTERVAL_MS;
    } else if (before === 'starting') {
      tracked.intervalMs = Math.min(tracked.intervalMs * 1.3, SLOWEST_START_INTERVAL_MS);
    } else {
      tracked.failures += 1;
      tracked.intervalMs = PROBE_TIMEOUT_MS;
      if (tracked.failures >= FAILURES_UNTIL_UNHEALTHY) tracked.health = 'unhealthy';
    }
    tracked.timer = setTimeout(() => void this.probe(replica, tracked), tracked.intervalMs);
    tracked.timer.unref();
    if (tracked.health !== before) this.onChange(tracked.functionId);
  }
}
