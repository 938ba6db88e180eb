import { LONGEST_IDLE_MS, LONGEST_TIMEOUT_MS, MOST_CONCURRENCY, MOST_REPLICAS } from '#libs/config/config.js';
import { ApiProperty } from '@nestjs/swagger';
import { ValidateBy, type ValidationArguments } from 'class-validator';
import { isUtf8 } from 'node:buffer';
import { LONGEST_NAME, parseFunctionName } from '../function-name.js';
import { namesAnotherEncoding } from '../source-encoding.js';

/** Holds when `faultOf` finds nothing; its sentence is the message otherwise. */
function Faultless(faultOf: (value: unknown) => string | undefined): PropertyDecorator {
  return ValidateBy({
    name: 'faultless',
    validator: {
      validate: (value: unknown) => faultOf(value) === undefined,
      defaultMessage: (checked?: ValidationArguments) => faultOf(checked?.value) ?? '',
    },
  });
}

/** The form of an upload: as the OpenAPI document describes it, and as it is checked. */
export class UploadDto {
  @ApiProperty({
    type: 'string',
    format: 'binary',
    description: 'One Python source file, UTF-8 unless it names another encoding (PEP 263). Its own name is ignored.',
  })
  @Faultless(fileFault)
  python_file: Buffer | undefined;

  @ApiProperty({
    type: String,
    minLength: 1,
    maxLength: LONGEST_NAME,
    description: 'The callable inside the file that takes the payload.',
    example: 'handle',
  })
  @Faultless(nameFault)
  function_name: string | undefined;

  @ApiProperty({
    type: 'integer',
    minimum: 1,
    required: false,
    maximum: LONGEST_TIMEOUT_MS,
    description: 'Time limit of one call, in milliseconds. The manager may allow less (MAX_TIMEOUT_MS).',
  })
  @Faultless(integerFault('timeout_ms', 1, 'milliseconds'))
  timeout_ms: string | undefined;

  @ApiProperty({
    type: 'integer',
    minimum: 0,
    maximum: LONGEST_IDLE_MS,
    required: false,
    description:
      'Without a call for this long the function loses its replicas until the next call, in milliseconds; 0: never.',
  })
  @Faultless(integerFault('idle_timeout_ms', 0, 'milliseconds'))
  idle_timeout_ms: string | undefined;

  @ApiProperty({
    type: 'integer',
    minimum: 0,
    required: false,
    maximum: MOST_REPLICAS,
    description: 'Replicas that stay ready though nobody calls. With 1 or more the function never sleeps.',
  })
  @Faultless(integerFault('min_replicas', 0, 'replicas'))
  min_replicas: string | undefined;

  @ApiProperty({
    type: 'integer',
    minimum: 1,
    required: false,
    maximum: MOST_REPLICAS,
    description: 'Replicas there may be at most, however many calls come.',
  })
  @Faultless(integerFault('max_replicas', 1, 'replicas'))
  max_replicas: string | undefined;

  @ApiProperty({
    type: 'integer',
    minimum: 1,
    required: false,
    maximum: MOST_CONCURRENCY,
    description: 'Calls that run at once in one replica.',
  })
  @Faultless(integerFault('concurrency', 1, 'calls'))
  concurrency: string | undefined;
}

function fileFault(file: unknown): string | undefined {
  if (!Buffer.isBuffer(file)) return 'python_file is missing: send the Python file as a file part of that name.';
  if (file.length === 0) return 'python_file is empty.';
  if (!isUtf8(file) && !namesAnotherEncoding(file)) {
    return 'python_file is not UTF-8 text, and its first two lines name no other encoding (# coding: latin-1).';
  }
  return file.includes(0) ? 'python_file holds a NUL byte, which Python source may not.' : undefined;
}

function nameFault(name: unknown): string | undefined {
  if (typeof name !== 'string') return 'function_name is missing: send the name of the function inside the file.';
  const parsed = parseFunctionName(name);
  return 'fault' in parsed ? parsed.fault : undefined;
}

function integerFault(name: string, least: number, unit: string): (text: unknown) => string | undefined {
  return (text) => {
    const isGood = typeof text === 'string' && /^\d+$/.test(text) && Number(text) >= least;
    return text === undefined || isGood ? undefined : `${name} must be a whole number of ${unit}, at least ${least}.`;
  };
}
