import type { Config } from '#libs/config/config.js';
import { orGiveUp } from '#libs/deadlines/within.js';
import { DatabaseServer } from '#libs/database/database-server.js';
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Keyring, ownKey } from '../secrets/keyring.js';
import type { ToPrimary } from './messages.js';
import { MetricsAggregator } from './metrics-aggregator.js';

/** A process that lived for less is replaced only after a pause, which doubles each time. */
const SHORT_LIFE_MS = 10_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 30_000;
/** Beyond what a process may take to let its calls finish; after that it is killed. */
const STOP_MARGIN_MS = 30_000;
const DATABASE_MS = 30_000;

/**
 * Shares the address among several managers of the same kind, one process each, and replaces those that end. It serves
 * nothing itself: it hands out connections, runs the embedded database where it is used, and adds up metrics.
 */
export class Primary {
  private readonly metrics = new MetricsAggregator(() => this.living());
  private readonly stopping = new AbortController();
  private shortLives = 0;
  /** The first process has listened: one that ends from now on is replaced. */
  private isUp = false;

  private constructor(
    private readonly config: Config,
    private readonly logger: Logger,
    private readonly database: DatabaseServer,
    /** What its processes get beside its own environment. */
    private readonly env: Readonly<Record<string, string>>,
  ) {}

  /**
   * Resolves once the first process of `program` listens; the others follow. Rejects when it can't, and then that
   * process has said why.
   */
  static async start(config: Config, logger: Logger, program: string): Promise<Primary> {
    const secretsKey = await ownSecretsKey(config, logger);
    const database = await DatabaseServer.open(config.database, logger);
    const primary = new Primary(config, logger, database, { DATABASE_URL: database.url, ...secretsKey });
    // Structured, so that numbers that JSON doesn't know get through.
    cluster.setupPrimary({ exec: program, args: [], serialization: 'advanced' });
    cluster.on('message', (worker, message: ToPrimary) => primary.metrics.receive(worker, message));
    try {
      // One first: a wrong configuration is reported once, and one process migrates the database.
      await listening(primary.fork());
    } catch (error) {
      await primary.stop();
      throw error;
    }
    primary.isUp = true;
    for (let others = 1; others < config.server.processes; others += 1) primary.fork();
    return primary;
  }

  /** Shuts every process down as a manager does, and waits for it. */
  async stop(): Promise<void> {
    this.stopping.abort();
    const { shutdownDelayMs, drainTimeoutMs } = this.config.server;
    const late = setTimeout(() => this.signal('SIGKILL'), shutdownDelayMs + drainTimeoutMs + STOP_MARGIN_MS);
    this.signal('SIGTERM');
    await Promise.all(this.living().map((worker) => once(worker, 'exit')));
    clearTimeout(late);
    await orGiveUp('the database server', DATABASE_MS, this.logger, () => this.database.close());
  }

  private fork(): Worker {
    const bornAt = performance.now();
    const worker = cluster.fork(this.env);
    worker.once('exit', (code, signal) => void this.replace(worker.id, signal ?? `status ${code}`, bornAt));
    return worker;
  }

  private async replace(id: number, how: string, bornAt: number): Promise<void> {
    this.metrics.ended(id);
    if (!this.isUp || this.stopping.signal.aborted) return;
    this.shortLives = performance.now() - bornAt < SHORT_LIFE_MS ? this.shortLives + 1 : 0;
    const pauseMs = this.shortLives === 0 ? 0 : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.shortLives);
    this.logger.warn({ process: id, how, pauseMs }, 'a process ended, another takes its place');
    await delay(pauseMs, undefined, { signal: this.stopping.signal }).catch(() => undefined);
    if (!this.stopping.signal.aborted) this.fork();
  }

  private living(): readonly Worker[] {
    return Object.values(cluster.workers ?? {}).filter(
      (worker) => worker !== undefined && !worker.isDead(),
    ) as Worker[];
  }

  private signal(signal: NodeJS.Signals): void {
    for (const worker of this.living()) worker.process.kill(signal);
  }
}

/** Resolves once the process takes connections; rejects when it ends before. */
async function listening(worker: Worker): Promise<void> {
  const ended = once(worker, 'exit').then(([code, signal]: (number | string | null)[]) => {
    throw new Error(`A process of the manager ended: ${signal ?? `status ${code}`}.`);
  });
  await Promise.race([once(worker, 'listening'), ended]);
}

/** To the processes the database is another one's server: they make no key of their own. */
async function ownSecretsKey({ secrets }: Config, logger: Logger): Promise<Record<string, string>> {
  if (!secrets.mayMakeKey) return {};
  await Keyring.open(secrets, logger);
  const own = await ownKey(secrets.keyFile, true);
  return own === undefined ? {} : { SECRETS_KEYS: `${own.id}:${own.key.toString('base64')}` };
}
