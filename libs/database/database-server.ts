import type { DatabaseConfig } from '#libs/config/config.js';
import type { Logger } from 'pino';
import { EmbeddedPostgres } from './embedded/embedded-postgres.js';

const CHECK_MS = 1_000;

/** The PostgreSQL server that the configuration names: another's, or our own, which is then kept running. */
export class DatabaseServer {
  private timer: NodeJS.Timeout | undefined;
  private checking: Promise<unknown> = Promise.resolve();
  private readonly closing = new AbortController();

  private constructor(
    readonly url: string,
    private readonly embedded: EmbeddedPostgres | undefined,
    private readonly logger: Logger,
  ) {}

  static async open(config: DatabaseConfig, logger: Logger): Promise<DatabaseServer> {
    if (config.kind === 'server') return new DatabaseServer(config.url, undefined, logger);
    const embedded = new EmbeddedPostgres({ dataDir: config.dataDir, logger });
    const url = await embedded.ensureRunning(new AbortController().signal);
    const server = new DatabaseServer(url, embedded, logger);
    server.check(embedded);
    return server;
  }

  /** Stops a server of our own; data stays. */
  async close(): Promise<void> {
    this.closing.abort();
    clearTimeout(this.timer);
    await this.checking;
    await this.embedded?.stop();
  }

  private check(embedded: EmbeddedPostgres): void {
    this.timer = setTimeout(() => {
      this.checking = embedded
        .ensureRunning(this.closing.signal)
        .catch((error: unknown) => {
          if (!this.closing.signal.aborted) this.logger.error({ err: error }, 'the embedded database does not run');
        })
        .finally(() => {
          if (!this.closing.signal.aborted) this.check(embedded);
        });
    }, CHECK_MS);
  }
}
