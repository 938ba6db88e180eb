import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';

type Listener = (payload: string | undefined) => void;

const RECONNECT_MS = 500;

/**
 * One `LISTEN` session for any number of channels. It reconnects by itself and then calls every listener with
 * `undefined`, because notifications sent meanwhile are lost: whoever listens must look for itself then.
 */
export class Notifications {
  private readonly listeners = new Map<string, Set<Listener>>();
  private client: pg.Client | undefined;
  private readonly closing = new AbortController();
  private running: Promise<void> = Promise.resolve();

  constructor(
    private readonly url: string,
    private readonly logger: Logger,
  ) {}

  /** Call before `start`; returns the way to stop listening. */
  on(channel: string, listener: Listener): () => void {
    const known = this.listeners.get(channel) ?? new Set();
    this.listeners.set(channel, known.add(listener));
    return () => known.delete(listener);
  }

  start(): void {
    this.running = this.stayConnected();
  }

  /** Resolves when no session is left, not even one that was being made. */
  async close(): Promise<void> {
    this.closing.abort();
    await this.client?.end().catch(() => undefined);
    await this.running;
  }

  private async stayConnected(): Promise<void> {
    while (!this.closing.signal.aborted) {
      try {
        await this.session();
      } catch (error) {
        if (this.closing.signal.aborted) return;
        this.logger.warn({ reason: (error as Error).message }, 'lost the notification session, reconnecting');
      }
      await delay(RECONNECT_MS, undefined, { signal: this.closing.signal }).catch(() => undefined);
    }
  }

  private async session(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.url,
      keepAlive: true,
      connectionTimeoutMillis: 3_000,
      application_name: 'service-faas-listen',
    });
    const ended = new Promise<void>((resolve, reject) => {
      client.on('error', reject);
      client.on('end', resolve);
    });
    // The session may fail before anybody awaits its end.
    ended.catch(() => undefined);
    client.on('notification', ({ channel, payload }) => {
      for (const listener of this.listeners.get(channel) ?? []) listener(payload);
    });
    try {
      await client.connect();
      for (const channel of this.listeners.keys()) await client.query(`LISTEN ${client.escapeIdentifier(channel)}`);
      // Whoever closed while this session was being made had no session to end.
      if (this.closing.signal.aborted) return;
      this.client = client;
      for (const listeners of this.listeners.values()) for (const listener of listeners) listener(undefined);
      await ended;
    } finally {
      this.client = undefined;
      await client.end().catch(() => undefined);
    }
  }
}
