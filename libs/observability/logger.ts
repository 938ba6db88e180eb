import type { LogConfig } from '#libs/config/config.js';
import { type Logger, pino } from 'pino';
import pretty from 'pino-pretty';

/** Where a secret may stand in a logged object; its value never reaches the log. */
const SECRETS = [
  'password',
  '*.password',
  'authorization',
  '*.authorization',
  'req.headers',
  '*.authconfig',
  'err.config',
  'err.client',
  'err.parameters',
];

/** The process's one logger: JSON lines for machines, or text for people. `base` stands in every line. */
export function createLogger(config: LogConfig, base: Record<string, unknown> | null = null): Logger {
  const options = {
    level: config.level,
    base,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: SECRETS, censor: '[redacted]' },
  };
  return config.pretty
    ? pino(options, pretty({ colorize: process.stdout.isTTY, sync: true, singleLine: true }))
    : pino(options);
}
