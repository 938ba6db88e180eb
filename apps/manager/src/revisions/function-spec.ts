import { LONGEST_IDLE_MS, LONGEST_TIMEOUT_MS, MOST_CONCURRENCY, MOST_REPLICAS } from '#libs/config/config.js';
import { ApiProperty } from '@nestjs/swagger';
import { IsInt, IsOptional, Min } from 'class-validator';
import { InvalidUpload } from '../functions/errors.js';

interface SettingOptions {
  readonly description: string;
  readonly unit: string;
  readonly minimum: number;
  readonly maximum: number;
  readonly example: number;
  readonly nullable?: boolean;
}

const SETTINGS = new Map<string, SettingOptions>();

/** A whole number that an upload may set. */
function Setting(options: SettingOptions): PropertyDecorator {
  const { unit, minimum } = options;
  return (target, name) => {
    SETTINGS.set(name as string, options);
    const message = `${name as string} must be a whole number of ${unit}, at least ${minimum}.`;
    for (const rule of [IsOptional(), IsInt({ message }), Min(minimum, { message })]) rule(target, name);
  };
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
}

export type SettingName = keyof FunctionSpec;
export const SETTING_NAMES = [...SETTINGS.keys()] as readonly SettingName[];

/**
 * Documents the settings of a class after its own properties: as fields of a form, or as members of an answer. Fields
 * have no examples, because Swagger UI would send those as values.
 */
export function DocumentSettings(as: 'fields' | 'members'): ClassDecorator {
  return ({ prototype }) => {
    for (const [name, { minimum, maximum, description, example, nullable }] of SETTINGS) {
      const rest = as === 'fields' ? { required: false } : { example, ...(nullable && { nullable }) };
      ApiProperty({ type: 'integer', minimum, maximum, description, ...rest })(prototype as object, name);
    }
  };
}

/** What the installation adds to the settings that an upload names. */
export interface SpecPolicy {
  readonly defaults: FunctionSpec;
  /** Upper limits below those of {@link FunctionSpec}; `why` goes into the error. */
  readonly ceilings: Partial<Record<SettingName, { readonly most: number; readonly why?: string }>>;
}

/** All settings of a function. Throws {@link InvalidUpload} with the field and the limit that it passes. */
export function resolveSpec(asked: Partial<FunctionSpec>, { defaults, ceilings }: SpecPolicy): FunctionSpec {
  for (const name of SETTING_NAMES) {
    const { maximum } = SETTINGS.get(name) as SettingOptions;
    const { most, why } = ceilings[name] ?? { most: Infinity };
    if ((asked[name] ?? 0) <= Math.min(maximum, most)) continue;
    const reason = most < maximum && why !== undefined ? `: ${why}` : '.';
    throw new InvalidUpload(name, `${name} must be at most ${Math.min(maximum, most)}${reason}`);
  }
  const { min_replicas, max_replicas } = asked;
  if ((min_replicas ?? 0) > (max_replicas ?? Infinity)) {
    throw new InvalidUpload('min_replicas', 'min_replicas must not be more than max_replicas.');
  }
  const fewest = Math.min(defaults.min_replicas, max_replicas ?? Infinity);
  return { ...defaults, min_replicas: fewest, ...asked };
}

type CamelCase<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<CamelCase<Rest>>}`
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
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()) as keyof SpecColumns;
}
