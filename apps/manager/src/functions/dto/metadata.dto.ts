import { DNS_LABEL, isDnsLabel } from '#libs/names/dns-label.js';
import { isJsonObject } from '#libs/json/json-scan.js';
import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsOptional } from 'class-validator';
import { isFunctionId } from '../function-id.js';
import { defaultsFault, type InvocationPolicy, InvocationPolicyDto } from '../../invocations/invocation-policy.js';
import { historyFault, type HistorySetting, HISTORY, HistorySettingDto } from './history-setting.dto.js';
import { Faultless } from '../../revisions/faultless.js';

const LONGEST_NAME = 63;
const LONGEST_DESCRIPTION = 1_000;
const MOST_LABELS = 32;
/** As Kubernetes has them, so that labels can be the same there. */
const LABEL_KEY = /^[A-Za-z0-9]([-._/A-Za-z0-9]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?$/;

/** What users call a function and say of it. Changing it starts nothing anew. */
export interface Metadata {
  readonly name: string | null;
  readonly description: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly enabled: boolean;
  readonly public: boolean;
  /** How its calls for later are tried that say nothing else. */
  readonly invocation_defaults: InvocationPolicy;
  /** What is kept of its calls. */
  readonly history: HistorySetting;
}

/** Of whatever holds more. */
export function metadataOf(whole: Metadata): Metadata {
  const { name, description, labels, enabled, invocation_defaults, history } = whole;
  return { name, description, labels, enabled, public: whole.public, invocation_defaults, history };
}

export const UNNAMED: Metadata = {
  name: null,
  description: '',
  labels: {},
  enabled: true,
  public: false,
  invocation_defaults: {},
  history: {},
};

/** {@link Metadata} as requests send it, each part of it optional. How labels and defaults are sent is documented beside it. */
export class MetadataFields {
  @ApiPropertyOptional({
    type: String,
    nullable: true,
    pattern: DNS_LABEL.source,
    maxLength: LONGEST_NAME,
    description: 'A DNS label that no other function has. Paths take it in place of the id. Without one it is the id.',
  })
  @IsOptional()
  @Faultless(nameFault)
  name?: string | null;

  @ApiPropertyOptional({ type: String, maxLength: LONGEST_DESCRIPTION, description: 'For people.' })
  @IsOptional()
  @Faultless((text) => textFault('description', text, LONGEST_DESCRIPTION))
  description?: string;

  @IsOptional()
  @Faultless(labelsFault)
  labels?: Record<string, string>;

  @ApiPropertyOptional({
    type: Boolean,
    description: 'False: calls are refused with `function_disabled`, and nothing is removed.',
  })
  @IsOptional()
  @Faultless((value) => flagFault('enabled', value))
  enabled?: boolean;

  @ApiPropertyOptional({
    type: Boolean,
    description: 'True: everybody may call it over HTTP (`/f/…`) without a key. Other routes ask for one all the same.',
  })
  @IsOptional()
  @Faultless((value) => flagFault('public', value))
  public?: boolean;

  @IsOptional()
  @Faultless((value) => defaultsFault('invocation_defaults', value))
  invocation_defaults?: InvocationPolicy;

  @IsOptional()
  @Faultless(historyFault)
  history?: HistorySetting;
}

export const LABELS = {
  type: 'object',
  additionalProperties: { type: 'string' },
  maxProperties: MOST_LABELS,
  description: 'Words to find functions by. Keys and values of labels of Kubernetes are valid here.',
} as const;

export const INVOCATION_DEFAULTS =
  'What calls for later have that say nothing else; a member that is left out follows the installation.';

/** A change of {@link Metadata}. */
export class MetadataDto extends MetadataFields {
  @ApiPropertyOptional({ ...LABELS, additionalProperties: { type: ['string', 'null'] } as object })
  declare labels?: Record<string, string>;

  @ApiPropertyOptional({ type: InvocationPolicyDto, description: INVOCATION_DEFAULTS })
  declare invocation_defaults?: InvocationPolicy;

  @ApiPropertyOptional({ type: HistorySettingDto, description: HISTORY })
  declare history?: HistorySetting;
}

export const METADATA_NAMES = [
  'name',
  'description',
  'labels',
  'enabled',
  'public',
  'invocation_defaults',
  'history',
] as const satisfies (keyof Metadata)[];

/** Whether a text has the form of a name. Others needn't be looked up. */
export function isName(text: string): boolean {
  return isDnsLabel(text) && !isFunctionId(text);
}

export function isLabel(key: string, value: string): boolean {
  return LABEL_KEY.test(key) && LABEL_VALUE.test(value);
}

function nameFault(name: unknown): string | undefined {
  if (!isDnsLabel(name)) {
    return `name must be a DNS label: 1 to ${LONGEST_NAME} lower-case letters, digits and hyphens, with no hyphen at either end.`;
  }
  return isFunctionId(name)
    ? 'name has the form of an id (16 letters a to z and digits 2 to 7): choose another.'
    : undefined;
}

/** Of a text for people. */
export function textFault(name: string, text: unknown, longest: number): string | undefined {
  if (typeof text !== 'string') return `${name} must be a text.`;
  if (text.length > longest && [...text].length > longest) return `${name} is longer than ${longest} characters.`;
  return text.includes('\0') || !text.isWellFormed() ? `${name} holds characters that are no text.` : undefined;
}

function labelsFault(labels: unknown): string | undefined {
  if (!isJsonObject(labels)) return 'labels must be a JSON object of strings, such as {"team": "payments"}.';
  const entries = Object.entries(labels);
  if (entries.length > MOST_LABELS) return `There are more than ${MOST_LABELS} labels.`;
  for (const [key, value] of entries) {
    const shown = JSON.stringify(key.slice(0, 64));
    if (!LABEL_KEY.test(key)) {
      return `The label key ${shown} must have 1 to 63 letters, digits, ".", "_", "-" and "/", and begin and end with a letter or digit.`;
    }
    if (typeof value !== 'string' || !LABEL_VALUE.test(value)) {
      return `The value of label ${shown} must be a string of at most 63 letters, digits, ".", "_" and "-" that begins and ends with a letter or digit.`;
    }
  }
  return undefined;
}

function flagFault(name: string, value: unknown): string | undefined {
  return typeof value === 'boolean' ? undefined : `${name} must be true or false.`;
}
