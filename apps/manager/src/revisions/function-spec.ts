import {
  LONGEST_IDLE_MS,
  LONGEST_REQUIREMENTS,
  LONGEST_TIMEOUT_MS,
  MOST_CONCURRENCY,
  MOST_CPU_MILLIS,
  MOST_MEMORY_MIB,
  MOST_REPLICAS,
} from '#libs/config/config.js';
import { ApiProperty, type ApiPropertyOptions } from '@nestjs/swagger';
import { IsInt, IsOptional, Min } from 'class-validator';
import { Faultless } from './faultless.js';
import { InvalidUpload } from '../functions/errors.js';
import { parseRequirements } from '../layers/requirements.js';
import { environmentFault, LARGEST_ENVIRONMENT } from './environment.js';
import { MOST_SECRETS, type SecretTargets, secretsFault, variablesOf } from './secret-targets.js';

interface SettingOptions {
  readonly description: string;
  readonly unit: string;
  readonly minimum: number;
  readonly maximum: number;
  readonly example: number;
  readonly nullable?: boolean;
}

/** What is documented of a setting: `text` where it is a field of a form. */
interface Documented {
  readonly member: ApiPropertyOptions;
  readonly text: ApiPropertyOptions;
  readonly example: unknown;
}

const SETTINGS = new Map<string, Documented>();
const MAXIMA = new Map<string, number>();

/** A whole number that an upload may set. */
function Setting(options: SettingOptions): PropertyDecorator {
  const { unit, minimum, maximum, description, example, nullable } = options;
  return (target, name) => {
    const schema = { type: 'integer', minimum, maximum, description } as const;
    SETTINGS.set(name as string, { member: { ...schema, ...(nullable && { nullable }) }, text: schema, example });
    MAXIMA.set(name as string, maximum);
    const message = `${name as string} must be a whole number of ${unit}, at least ${minimum}.`;
    for (const rule of [IsOptional(), IsInt({ message }), Min(minimum, { message })]) rule(target, name);
  };
}

/** The variables that an upload may set. */
function Environment(): PropertyDecorator {
  return (target, name) => {
    const description = `Variables of the handler's environment, at most ${LARGEST_ENVIRONMENT / 1024} KiB of them. For secrets they are no place: everybody sees them who may see the function.`;
    SETTINGS.set(name as string, {
      member: { type: 'object', additionalProperties: { type: 'string' }, description },
      text: { type: String, description: `A JSON object of strings. ${description}` },
      example: { GREETING: 'Hello' },
    });
    for (const rule of [IsOptional(), Faultless(environmentFault)]) rule(target, name);
  };
}

/** The secrets that an upload may ask for. */
function Secrets(): PropertyDecorator {
  return (target, name) => {
    const description = `Secrets that the handler gets, at most ${MOST_SECRETS}: the name of a variable and that of the secret, or the name of a file and {"file": the secret's name}. Files are in the folder that FAAS_SECRETS_DIR names, /run/secrets in containers.`;
    const source = {
      oneOf: [{ type: 'string' }, { type: 'object', required: ['file'], properties: { file: { type: 'string' } } }],
    };
    SETTINGS.set(name as string, {
      member: { type: 'object', additionalProperties: source, description },
      text: { type: String, description: `A JSON object. ${description}` },
      example: { DB_PASSWORD: 'db-password', 'tls.pem': { file: 'db-cert' } },
    });
    for (const rule of [IsOptional(), Faultless(secretsFault)]) rule(target, name);
  };
}

/** The packages that an upload may name. */
function Packages(): PropertyDecorator {
  return (target, name) => {
    const description = `Packages that the code imports: the lines of a requirements file, at most ${LONGEST_REQUIREMENTS / 1024 ** 2} MiB, or a lock with hashes. Without it a block of script metadata (PEP 723) in the code counts.`;
    SETTINGS.set(name as string, {
      member: { type: String, maxLength: LONGEST_REQUIREMENTS, nullable: true, description },
      text: { type: String, maxLength: LONGEST_REQUIREMENTS, description },
      example: 'requests>=2.32\n',
    });
    for (const rule of [IsOptional(), Faultless(requirementsFault)]) rule(target, name);
  };
}

/** What handlers may be called with: docs/http.md. */
export const HANDLER_KINDS = [
  'auto',
  'payload',
  'context',
  'asgi',
  'wsgi',
  'lambda',
  'openfaas',
  'functions-framework',
  'knative',
] as const;
export type HandlerKind = (typeof HANDLER_KINDS)[number];

/** How an upload's handler is called. */
function Kind(): PropertyDecorator {
  return (target, name) => {
    const description =
      'What the handler is called with: the payload; the payload and a context; as a web application (ASGI, WSGI); or as another platform calls it. By default its parameters tell.';
    const schema = { type: 'string', enum: [...HANDLER_KINDS], description } as const;
    SETTINGS.set(name as string, { member: schema, text: schema, example: 'auto' });
    for (const rule of [IsOptional(), Faultless(kindFault)]) rule(target, name);
  };
}

function kindFault(kind: unknown): string | undefined {
  if (HANDLER_KINDS.some((known) => known === kind)) return undefined;
  return `handler_kind must be one of ${HANDLER_KINDS.join(', ')}.`;
}

function requirementsFault(text: unknown): string | undefined {
  if (typeof text !== 'string') return 'requirements must be text: the lines of a requirements file.';
  const parsed = parseRequirements(text);
  return 'fault' in parsed ? parsed.fault : undefined;
}

/**
 * The settings of a function: fields of the upload's form, columns of its row, members of its answers. A new one needs
 * its place here, its column in the entity and a migration, what uses it, and a test.
 */
export class FunctionSpec {
  @Setting({
    description: 'Time limit of one call, in milliseconds. The manager may allow less (MAX_TIMEOUT_MS).',
    unit: 'milliseconds',
    minimum: 1,
    maximum: LONGEST_TIMEOUT_MS,
    example: 30_000,
  })
  timeout_ms: number;

  @Setting({
    description:
      'Without a call for this long the function loses its replicas until the next call, in milliseconds; 0: never.',
    unit: 'milliseconds',
    minimum: 0,
    maximum: LONGEST_IDLE_MS,
    example: 600_000,
  })
  idle_timeout_ms: number;

  @Setting({
    description: 'Replicas that stay ready though nobody calls. With 1 or more the function never sleeps.',
    unit: 'replicas',
    minimum: 0,
    maximum: MOST_REPLICAS,
    example: 0,
  })
  min_replicas: number;

  @Setting({
    description: "Replicas there may be at most, however many calls come. Without it the manager's own limit counts.",
    unit: 'replicas',
    minimum: 1,
    maximum: MOST_REPLICAS,
    example: 10,
    nullable: true,
  })
  max_replicas: number | null;

  @Setting({
    description: 'Calls that run at once in one replica.',
    unit: 'calls',
    minimum: 1,
    maximum: MOST_CONCURRENCY,
    example: 32,
  })
  concurrency: number;

  @Setting({
    description: 'Memory of one replica, in MiB. The manager may allow less (MAX_MEMORY_MIB).',
    unit: 'MiB',
    minimum: 32,
    maximum: MOST_MEMORY_MIB,
    example: 512,
  })
  memory_mib: number;

  @Setting({
    description:
      'Processor time of one replica, in thousandths of a core. The manager may allow less (MAX_CPU_MILLIS).',
    unit: 'thousandths of a core',
    minimum: 10,
    maximum: MOST_CPU_MILLIS,
    example: 1_000,
  })
  cpu_millis: number;

  @Environment()
  env: Readonly<Record<string, string>>;

  @Secrets()
  secrets: SecretTargets;

  @Kind()
  handler_kind: HandlerKind;

  @Packages()
  requirements: string | null;
}

export type SettingName = keyof FunctionSpec;
export const SETTING_NAMES = [...SETTINGS.keys()] as readonly SettingName[];

/** The settings that are named, in the order in which they are kept. */
export function saidIn(settings: Partial<FunctionSpec>): SettingName[] {
  return SETTING_NAMES.filter((name) => settings[name] !== undefined);
}

/**
 * Documents the settings of a class after its own properties: as fields of a form, members of a JSON body, or members of
 * an answer. What is sent has no examples, because Swagger UI would send those as values.
 */
export function DocumentSettings(
  as: 'fields' | 'json' | 'members',
  without: readonly SettingName[] = [],
): ClassDecorator {
  return ({ prototype }) => {
    for (const [name, { member, text, example }] of SETTINGS) {
      if (without.includes(name as SettingName)) continue;
      const options =
        as === 'members' ? { ...member, example } : { ...(as === 'fields' ? text : member), required: false };
      ApiProperty(options as ApiPropertyOptions)(prototype as object, name);
    }
  };
}

/** What the installation adds to the settings that an upload names. */
export interface SpecPolicy {
  readonly defaults: FunctionSpec;
  /** Upper limits below those of {@link FunctionSpec}, where replicas have this memory; `why` goes into the error. */
  readonly ceilings: (
    memoryMiB: number,
  ) => Partial<Record<SettingName, { readonly most: number; readonly why?: string }>>;
}

/** All settings of a function. Throws {@link InvalidUpload} with the field and the limit that it passes. */
export function resolveSpec(asked: Partial<FunctionSpec>, { defaults, ceilings }: SpecPolicy): FunctionSpec {
  const limits = ceilings(asked.memory_mib ?? defaults.memory_mib);
  for (const [name, maximum] of MAXIMA as Map<
    Exclude<SettingName, 'env' | 'secrets' | 'requirements' | 'handler_kind'>,
    number
  >) {
    const { most, why } = limits[name] ?? { most: Infinity };
    if ((asked[name] ?? 0) <= Math.min(maximum, most)) continue;
    const reason = most < maximum && why !== undefined ? `: ${why}` : '.';
    throw new InvalidUpload(name, `${name} must be at most ${Math.min(maximum, most)}${reason}`);
  }
  const { min_replicas, max_replicas } = asked;
  if ((min_replicas ?? 0) > (max_replicas ?? Infinity)) {
    throw new InvalidUpload('min_replicas', 'min_replicas must not be more than max_replicas.');
  }
  const twice = variablesOf(asked.secrets ?? {}).find(({ target }) => Object.hasOwn(asked.env ?? {}, target));
  if (twice !== undefined) {
    throw new InvalidUpload('secrets', `secrets: the variable ${JSON.stringify(twice.target)} is in env, too.`);
  }
  const fewest = Math.min(defaults.min_replicas, max_replicas ?? Infinity);
  return { ...defaults, min_replicas: fewest, ...asked };
}

type CamelCase<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Rest extends 'mib' ? 'MiB' : Capitalize<CamelCase<Rest>>}`
  : Name;

/** The settings as the properties of a row. */
export type SpecColumns = { [Name in SettingName as CamelCase<Name>]: FunctionSpec[Name] };

export function specOf(row: SpecColumns): FunctionSpec {
  const values = row as unknown as Readonly<Record<string, unknown>>;
  return Object.fromEntries(SETTING_NAMES.map((name) => [name, values[propertyOf(name)]])) as unknown as FunctionSpec;
}

export function columnsOf(spec: FunctionSpec): SpecColumns {
  return Object.fromEntries(SETTING_NAMES.map((name) => [propertyOf(name), spec[name]])) as unknown as SpecColumns;
}

export function propertyOf(name: SettingName): keyof SpecColumns {
  return name
    .replace(/_mib$/, 'MiB')
    .replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()) as keyof SpecColumns;
}

/** The settings of a revision: those that are named, and all of them. */
export interface Resolved {
  readonly said: readonly string[];
  readonly spec: FunctionSpec;
}
export type Resolve = (named: Partial<FunctionSpec>) => Resolved;
