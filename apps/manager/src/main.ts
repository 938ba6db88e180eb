import 'reflect-metadata';
import type { Config } from '#libs/config/config.js';
import { InvalidConfig, loadConfig } from '#libs/config/load-config.js';
import { shareOf } from '#libs/config/share.js';
import { within } from '#libs/deadlines/within.js';
import { EmbeddedPostgresError } from '#libs/database/embedded/embedded-postgres-error.js';
import { createLogger } from '#libs/observability/logger.js';
import { EngineNotConfigured } from '#libs/orchestrator/errors.js';
import cluster, { type Worker } from 'node:cluster';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { UnusableKeyFile } from './auth/generated-key.js';
import { Primary } from './cluster/primary.js';
import { Manager } from './manager.js';

const SECOND_SIGNAL_MS = 1_000;
/** Limit of a shutdown beyond delay and drain. Each part has a shorter one; this is for a start that never ends. */
const LAST_MS = 90_000;

async function main(): Promise<void> {
  const config = loadConfig(process.env);
  const own = cluster.worker;
  const logger = createLogger(config.log, own === undefined ? null : { process: own.id });
  if (own === undefined) warnOfOpenAccess(config, logger);
  const isPrimary = config.server.processes > 1 && own === undefined;
  const starting = begin(config, logger, own);
  // A single manager needn't handle signals while it starts. A primary must: its first process may serve already.
  if (!isPrimary) await starting;

  let stoppingSince: number | undefined;
  const stop = (why: string) => {
    if (stoppingSince !== undefined) {
      // A terminal and a process manager may both pass on one signal. Only a later one means: end at once.
      if (performance.now() - stoppingSince > SECOND_SIGNAL_MS) process.exit(1);
      return;
    }
    stoppingSince = performance.now();
    logger.info({ signal: why }, 'signal received');
    const { shutdownDelayMs, drainTimeoutMs } = config.server;
    const ms = shutdownDelayMs + drainTimeoutMs + LAST_MS;
    within('The shutdown', { ms }, async () => (await starting).stop()).then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, 'shutdown failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  own?.on('disconnect', () => {
    // The primary is gone. No more connections come, but calls in flight may finish.
    own.exitedAfterDisconnect = true;
    if (stoppingSince === undefined) stop('disconnect');
  });
  await starting;
}

/** A manager, or the primary of several that share the address. */
async function begin(config: Config, logger: Logger, own: Worker | undefined): Promise<{ stop(): Promise<void> }> {
  const { host, processes } = config.server;
  if (processes > 1 && own === undefined) return Primary.start(config, logger, fileURLToPath(import.meta.url));
  const manager = await Manager.start(own === undefined ? config : shareOf(config, processes), logger);
  logger.info({ host, port: manager.port, docs: '/docs' }, 'listening');
  return manager;
}

function warnOfOpenAccess(config: Config, logger: Logger): void {
  if (config.server.narrowedToLoopback) {
    logger.warn('no API key is configured, so only this machine is let in; set API_KEYS to listen on every interface');
  }
  if (config.auth.disabled) logger.warn('AUTH_DISABLED is set: whoever reaches this address can run code');
}

main().catch((error: unknown) => {
  process.stderr.write(`service-faas can't start. ${explained(error)}\n`);
  process.exit(1);
});

/** Faults of the configuration are one sentence, all others have their stack. */
function explained(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return `The address is taken: ${error.message}. Set LISTEN_ADDR to another.`;
  const isConfiguration = [InvalidConfig, EmbeddedPostgresError, EngineNotConfigured, UnusableKeyFile].some(
    (kind) => error instanceof kind,
  );
  return isConfiguration || syscall === 'listen' ? error.message : (error.stack ?? error.message);
}
