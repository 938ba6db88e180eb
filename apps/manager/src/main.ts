import 'reflect-metadata';
import { InvalidConfig, loadConfig } from '#libs/config/load-config.js';
import { EmbeddedPostgresError } from '#libs/database/embedded/embedded-postgres-error.js';
import { createLogger } from '#libs/observability/logger.js';
import { EngineNotConfigured } from '#libs/orchestrator/errors.js';
import { Manager } from './manager.js';

const IMPATIENT_AFTER_MS = 1_000;

async function main(): Promise<void> {
  const config = loadConfig(process.env);
  const logger = createLogger(config.log);
  if (config.server.narrowedToLoopback) {
    logger.warn('no API key is configured, so only this machine is let in; set API_KEYS to listen on every interface');
  }
  if (config.auth.disabled) logger.warn('AUTH_DISABLED is set: whoever reaches this address can run code');
  const manager = await Manager.start(config, logger);
  logger.info({ host: config.server.host, port: manager.port, docs: '/docs' }, 'listening');

  let stoppingSince: number | undefined;
  const stop = (signal: NodeJS.Signals) => {
    if (stoppingSince !== undefined) {
      // A terminal and a process manager may both pass on the same request; only a later one is impatience.
      if (performance.now() - stoppingSince > IMPATIENT_AFTER_MS) process.exit(1);
      return;
    }
    stoppingSince = performance.now();
    logger.info({ signal }, 'signal received');
    manager.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, 'shutdown failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

main().catch((error: unknown) => {
  process.stderr.write(`service-faas can't start. ${explained(error)}\n`);
  process.exit(1);
});

/** Faults that a person can mend are told in a sentence, all others with their stack. */
function explained(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return `The address is taken: ${error.message}. Set LISTEN_ADDR to another.`;
  const mendable = [InvalidConfig, EmbeddedPostgresError, EngineNotConfigured].some((kind) => error instanceof kind);
  return mendable || syscall === 'listen' ? error.message : (error.stack ?? error.message);
}
