import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { settled } from '#libs/deadlines/within.js';
import type { Departures } from '#libs/orchestrator/departures.js';
import type { KeyedMutex } from '#libs/orchestrator/keyed-mutex.js';
import { LEAVING_MS } from '#libs/orchestrator/workload.js';
import type { Claims } from './claims.js';
import type { DockerEngine } from './docker-engine.js';
import { EngineRefusal } from './engine-fault.js';
import { leavingName, type Replica } from './replica.js';
import { logOf } from './replica-logs.js';
import type { ReplicaObserver } from './replica-observer.js';

/** Routers of all managers learn of new endpoints before the old ones stop listening. */
const NOTICE_MS = 1_000;
const GONE_POLL_MS = 50;

/** Removes replicas: at once, or in the background once their calls have finished. */
export class Drainer {
  /** Containers that this manager ends itself: their events tell nothing new. */
  private readonly ending = new Set<string>();
  private readonly closing = new AbortController();

  constructor(
    private readonly engine: DockerEngine,
    private readonly observer: ReplicaObserver,
    private readonly claims: Claims,
    private readonly steps: KeyedMutex,
    private readonly departures: Departures,
    private readonly logger: Logger,
  ) {}

  isEnding(id: string): boolean {
    return this.ending.has(id);
  }

  close(): void {
    this.closing.abort();
  }

  /** Removes what doesn't run. A half-made container may have been started meanwhile; then it stays. */
  async discard(replica: Replica, signal: AbortSignal): Promise<void> {
    if (replica.state === 'ended') await this.departures.tell(replica.functionId, logOf(this.engine, replica));
    await this.erase(replica, replica.state !== 'half', signal).catch(unlessRefused);
  }

  /**
   * Marks the replica as leaving and returns; it drains in the background. Repeating it is harmless, and by the mark
   * another manager goes on where this one was stopped.
   */
  async drain(replica: Replica, graceMs: number, signal: AbortSignal): Promise<void> {
    if (this.ending.has(replica.id)) return;
    this.ending.add(replica.id);
    this.observer.stopProbing(replica);
    try {
      if (!replica.leaving) await this.engine.rename(replica.id, leavingName(replica), signal).catch(unlessRefused);
    } catch (error) {
      this.ending.delete(replica.id);
      throw error;
    }
    void this.stopAndErase(replica, graceMs);
  }

  private async stopAndErase(replica: Replica, graceMs: number): Promise<void> {
    const { signal } = this.closing;
    try {
      // Nobody hears of new endpoints before the step that lets the old ones go has its outcome.
      await this.steps.run(replica.functionId, signal, () => Promise.resolve());
      await delay(NOTICE_MS, undefined, { signal });
      await this.engine.stop(replica.id, graceMs + LEAVING_MS, signal);
      await this.departures.tell(replica.functionId, logOf(this.engine, replica));
      await this.erase(replica, true, signal);
      this.logger.info({ functionId: replica.functionId, replica: replica.id.slice(0, 12) }, 'replica drained');
    } catch (error) {
      // Its name says that it is leaving, so the next step tries again.
      if (!signal.aborted) this.logger.warn({ err: error, replica: replica.id.slice(0, 12) }, 'replica not drained');
    } finally {
      this.ending.delete(replica.id);
    }
  }

  /** Stops and removes all of a function's containers, and resolves when the engine has none. */
  async removeAll(functionId: string, graceMs: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      const replicas = await this.observer.list(functionId, signal);
      if (replicas.length === 0) break;
      const removed = await settled(replicas.map((replica) => this.remove(replica, graceMs, signal)));
      // Somebody else may be removing one right now: the engine says so and gives no way to wait.
      if (removed.includes(false)) await delay(GONE_POLL_MS, undefined, { signal });
    }
    this.observer.forgetAllBut(functionId, new Set());
  }

  private async remove(replica: Replica, graceMs: number, signal: AbortSignal): Promise<boolean> {
    const known = this.ending.has(replica.id);
    this.ending.add(replica.id);
    try {
      const idle = replica.state !== 'running' || this.observer.isStarting(replica);
      this.observer.stopProbing(replica);
      if (graceMs > 0 && !idle) await this.engine.stop(replica.id, graceMs, signal);
      return await this.erase(replica, true, signal);
    } finally {
      if (!known) this.ending.delete(replica.id);
    }
  }

  private async erase(replica: Replica, force: boolean, signal: AbortSignal): Promise<boolean> {
    const erased = await this.engine.remove(replica, force, signal);
    if (erased && replica.fromPool) await this.claims.drop(replica.id, signal);
    return erased;
  }
}

function unlessRefused(error: unknown): void {
  if (!(error instanceof EngineRefusal)) throw error;
}
