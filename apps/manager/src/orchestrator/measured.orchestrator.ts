import type { Metrics } from '#libs/observability/metrics.js';
import type { Departures } from '#libs/orchestrator/departures.js';
import type { LayerEngine } from '#libs/orchestrator/layers.js';
import type { ReplicaLog } from '#libs/orchestrator/replica-log.js';
import { type Capabilities, type OnReady, Orchestrator, type PoolReport } from '#libs/orchestrator/orchestrator.js';
import type { Endpoint, EndpointAddress, FunctionId, Observed, Workload } from '#libs/orchestrator/workload.js';
import { Histogram } from 'prom-client';

const SECONDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

type Operation = 'ensure' | 'remove' | 'list' | 'ping';

/** Measures the calls to an engine and passes everything on. */
export class MeasuredOrchestrator extends Orchestrator {
  override readonly engine: string;
  override readonly capabilities: Capabilities;
  override readonly departures: Departures;
  private readonly duration: Histogram<'operation' | 'outcome'>;

  constructor(
    private readonly inner: Orchestrator,
    { registry }: Metrics,
  ) {
    super();
    this.engine = inner.engine;
    this.capabilities = inner.capabilities;
    this.departures = inner.departures;
    this.duration = new Histogram({
      name: 'faas_engine_call_duration_seconds',
      help: 'How long the engine took for what was asked of it.',
      labelNames: ['operation', 'outcome'],
      buckets: SECONDS,
      registers: [registry],
    });
  }

  override get warmPool(): PoolReport | undefined {
    return this.inner.warmPool;
  }

  override get layers(): LayerEngine | undefined {
    return this.inner.layers;
  }

  override ensure(workload: Workload, signal: AbortSignal, onReady?: OnReady): Promise<Observed> {
    return this.measured('ensure', signal, () => this.inner.ensure(workload, signal, onReady));
  }

  override remove(functionId: FunctionId, graceMs: number, signal: AbortSignal): Promise<void> {
    return this.measured('remove', signal, () => this.inner.remove(functionId, graceMs, signal));
  }

  override list(signal: AbortSignal): Promise<FunctionId[]> {
    return this.measured('list', signal, () => this.inner.list(signal));
  }

  override ping(signal: AbortSignal): Promise<void> {
    return this.measured('ping', signal, () => this.inner.ping(signal));
  }

  override secure(): Promise<void> {
    return this.inner.secure();
  }

  override watch(onChange: (functionId: FunctionId | undefined) => void, signal: AbortSignal): Promise<void> {
    return this.inner.watch(onChange, signal);
  }

  override logs(functionId: FunctionId, signal: AbortSignal): Promise<readonly ReplicaLog[]> {
    return this.inner.logs(functionId, signal);
  }

  override reach(endpoint: Endpoint): EndpointAddress {
    return this.inner.reach(endpoint);
  }

  override confirms(endpoint: Endpoint, signal: AbortSignal): Promise<boolean> {
    return this.inner.confirms(endpoint, signal);
  }

  override close(): ReturnType<Orchestrator['close']> {
    return this.inner.close();
  }

  /** A call that the manager aborted counts apart, as it says nothing of the engine. One that timed out does. */
  private async measured<T>(operation: Operation, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    let outcome = 'ok';
    try {
      return await call();
    } catch (error) {
      const isTimeout = (signal.reason as Error | undefined)?.name === 'TimeoutError';
      outcome = signal.aborted && !isTimeout ? 'aborted' : 'failed';
      throw error;
    } finally {
      this.duration.observe({ operation, outcome }, (performance.now() - startedAt) / 1_000);
    }
  }
}
