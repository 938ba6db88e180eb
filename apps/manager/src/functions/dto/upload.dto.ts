import { ApiProperty, PartialType } from '@nestjs/swagger';
import { ValidateBy, type ValidationArguments } from 'class-validator';
import { isUtf8 } from 'node:buffer';
import { DocumentSettings, FunctionSpec } from '../../revisions/function-spec.js';
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
@DocumentSettings('fields')
export class UploadDto extends PartialType(FunctionSpec) {
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
