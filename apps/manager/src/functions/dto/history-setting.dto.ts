import { isJsonObject } from '#libs/json/json-scan.js';
import { ApiPropertyOptional } from '@nestjs/swagger';

const MOST_NAMES = 100;
const LONGEST_NAME = 64;

/** Members that nobody reads of a function that names none itself. */
export const REDACTED = ['password', 'passwd', 'secret', 'token', 'api_key', 'authorization', 'credentials', 'cookie'];

/** What is kept of a function's calls beside what each leaves. */
export interface HistorySetting {
  readonly payloads?: number;
  readonly redact?: readonly string[];
}

/** {@link HistorySetting} as requests send it and answers show it. */
export class HistorySettingDto {
  @ApiPropertyOptional({
    type: Number,
    minimum: 0,
    maximum: 1,
    description: 'The share of its calls by `execute` whose payload and result are kept. None where it is left out.',
    example: 0.1,
  })
  payloads?: number;

  @ApiPropertyOptional({
    type: [String],
    maxItems: MOST_NAMES,
    description: `Members of JSON objects, at any depth, whose values are not kept; case, \`-\` and \`_\` don't matter. Where it is left out: ${REDACTED.join(', ')}.`,
    example: ['password', 'card_number'],
  })
  redact?: string[];
}

export const HISTORY =
  'What is kept of its calls beside what each leaves; a payload and a result are kept of none unless it says so.';

export function historyFault(value: unknown): string | undefined {
  if (!isJsonObject(value)) return 'history must be a JSON object, such as {"payloads": 0.1}.';
  const unknown = Object.keys(value).find((name) => name !== 'payloads' && name !== 'redact');
  if (unknown !== undefined) {
    return `history has no member ${JSON.stringify(unknown.slice(0, 64))}. Known: payloads, redact.`;
  }
  const { payloads, redact } = value;
  if (payloads !== undefined && !(typeof payloads === 'number' && payloads >= 0 && payloads <= 1)) {
    return 'payloads of history must be a number from 0 to 1.';
  }
  if (redact === undefined) return undefined;
  const areNames =
    Array.isArray(redact) &&
    redact.length <= MOST_NAMES &&
    redact.every((name) => typeof name === 'string' && name !== '' && name.length <= LONGEST_NAME && isStorable(name));
  return areNames
    ? undefined
    : `redact of history must be a list of at most ${MOST_NAMES} names of 1 to ${LONGEST_NAME} characters.`;
}

function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed();
}
