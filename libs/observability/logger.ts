import type { LogConfig } from '#libs/config/config.js';
import { type DestinationStream, type Logger, pino } from 'pino';
import { prettyFactory } from 'pino-pretty';
import { escapeControls, escapeControlsInJson } from './escape-controls.js';

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

/** A line is no longer than this, in characters; where one would be, its texts are cut. */
const LONGEST_LINE = 8 * 1024;
const LONGEST_TEXT = 1_024;
const LONGEST_STACK = 3 * 1024;

/**
 * The process's one logger: JSON lines for machines, or text for people. `base` stands in every line. Whatever is
 * logged, a line stays a line, short, and without what a terminal would obey.
 */
export function createLogger(
  config: LogConfig,
  base: Record<string, unknown> | null = null,
  destination: DestinationStream = pino.destination(1),
): Logger {
  const options = {
    level: config.level,
    base,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: SECRETS, censor: '[redacted]' },
  };
  if (!config.pretty) return pino(options, { write: (line: string) => destination.write(safeJson(line)) });
  const forPeople = prettyFactory({ colorize: process.stdout.isTTY, singleLine: true });
  return pino(options, { write: (line: string) => destination.write(forPeople(safeText(line)) ?? '') });
}

/** Most lines are short, and need no more than a look. */
function safeJson(line: string): string {
  return escapeControlsInJson(line.length <= LONGEST_LINE ? line : shortened(line, cutText));
}

/** Escapes are doubled, for they are undone when the line is written out for people. */
function safeText(line: string): string {
  return shortened(line, (text, key) =>
    key === 'stack' ? cutText(text, key).split('\n').map(plainText).join('\n') : escapeControls(text, LONGEST_TEXT),
  );
}

type Shorten = (text: string, key: string) => string;

function shortened(line: string, shorten: Shorten): string {
  const fields = withTexts(JSON.parse(line), '', shorten) as Record<string, unknown>;
  const whole = JSON.stringify(fields);
  if (whole.length <= LONGEST_LINE) return `${whole}\n`;
  const { level, time, msg, requestId } = fields;
  return `${JSON.stringify({ level, time, requestId, isCut: true, msg })}\n`;
}

/** The same value with all its texts shortened, the names of its members included. */
function withTexts(value: unknown, key: string, shorten: Shorten): unknown {
  if (typeof value === 'string') return shorten(value, key);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((member) => withTexts(member, key, shorten));
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [shorten(name, ''), withTexts(member, name, shorten)]),
  );
}

function cutText(text: string, key: string): string {
  const most = key === 'stack' ? LONGEST_STACK : LONGEST_TEXT;
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function plainText(text: string): string {
  return escapeControls(text, LONGEST_STACK);
}
