import { requestOfWorker } from './worker-request.js';
import { tokenHeader } from './worker-tokens.js';
import type { EndpointAddress, EndpointGuard, FunctionId } from './workload.js';

/** What the prober believes of one replica: not yet ready, ready, or ready once and silent since. */
export type ReplicaHealth = 'starting' | 'ready' | 'unhealthy';

const FIRST_INTERVAL_MS = 10;
const SLOWEST_START_INTERVAL_MS = 250;
const LIVENESS_INTERVAL_MS = 10_000;
const PROBE_TIMEOUT_MS = 2_000;
const FAILURES_UNTIL_UNHEALTHY = 3;

/**
 * One `GET /health`: good only for a 200 whose body says `"status": "ok"`. Never throws.
 *
 * @param token the worker's, if it has one: without it the worker doesn't say that it has a guard
 */
export async function probeHealth(
  address: EndpointAddress,
  timeoutMs = PROBE_TIMEOUT_MS,
  token?: string,
): Promise<{ readonly good: boolean; readonly guard: EndpointGuard | undefined }> {
  const health = await getHealth(address, timeoutMs, token);
  return { good: health?.['status'] === 'ok', guard: guardOf(health) };
}

/** Our own worker tells its protocol, and from the first one on it refuses calls that name another function. */
function guardOf(health: Record<string, unknown> | null): EndpointGuard | undefined {
  const worker = health?.['worker'] as { readonly protocol?: unknown } | null | undefined;
  return typeof worker?.protocol === 'number' && worker.protocol >= 1 ? 'worker' : undefined;
}

/** The document of `GET /health`, or null when there is none within the time: no answer, not 200, no JSON object, too large. */
export async function getHealth(
  address: EndpointAddress,
  timeoutMs: number,
  token?: string,
  signal?: AbortSignal,
): Promise<Record<string, unknown> | null> {
  const answer = await askHealth(address, timeoutMs, tokenHeader(token), signal);
  return answer?.status === 200 ? answer.document : null;
}

interface HealthAnswer {
  readonly status: number;
  /** Null when the body is no JSON object. */
  readonly document: Record<string, unknown> | null;
}

/** Whatever `GET /health` answers; null when nothing does within the time, or too much. */
export async function askHealth(
  address: EndpointAddress,
  timeoutMs: number,
  headers: Readonly<Record<string, string>> = {},
  signal?: AbortSignal,
): Promise<HealthAnswer | null> {
  try {
    const { status, body } = await requestOfWorker({ address, path: '/health', headers, timeoutMs, signal });
    return { status, document: objectOf(body) };
  } catch {
    return null;
  }
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
  readonly token: string | undefined;
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

  /**
   * Starts probing a replica; does nothing when it is tracked already.
   *
   * @param health `ready` for one that has just answered whoever asks for the tracking
   * @param token which it answers to, if it has one
   */
  track(
    replica: string,
    functionId: FunctionId,
    address: EndpointAddress,
    health: 'starting' | 'ready' = 'starting',
    token?: string,
  ): void {
    if (this.replicas.has(replica)) return;
    const tracked: Tracked = {
      functionId,
      address,
      token,
      health,
      // Only our own worker can have been given its function while it ran.
      guard: health === 'ready' ? 'worker' : undefined,
      failures: 0,
      intervalMs: FIRST_INTERVAL_MS,
    };
    this.replicas.set(replica, tracked);
    // It has just answered: its first call needs the processor now.
    if (health === 'ready') this.probeIn(LIVENESS_INTERVAL_MS, replica, tracked);
    else tracked.first = this.probe(replica, tracked);
  }

  /** Resolves after a replica's first probe, so that one adopted from a former manager shows its endpoint at once. */
  async probed(replica: string): Promise<void> {
    await this.replicas.get(replica)?.first;
  }

  health(replica: string): ReplicaHealth {
    return this.replicas.get(replica)?.health ?? 'starting';
  }

  /** Whether the replica itself refuses calls of other functions, by its last good answer. */
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
    const { good, guard } = await probeHealth(tracked.address, PROBE_TIMEOUT_MS, tracked.token);
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
    this.probeIn(tracked.intervalMs, replica, tracked);
    if (tracked.health !== before) this.onChange(tracked.functionId);
  }

  private probeIn(ms: number, replica: string, tracked: Tracked): void {
    tracked.timer = setTimeout(() => void this.probe(replica, tracked), ms);
    tracked.timer.unref();
  }
}
