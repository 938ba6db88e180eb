import { applyDecorators } from '@nestjs/common';
import { IsOptional } from 'class-validator';
import { ApiProperty, ApiPropertyOptional, IntersectionType, OmitType, PartialType } from '@nestjs/swagger';
import { isUtf8 } from 'node:buffer';
import { DocumentSettings, FunctionSpec } from '../../revisions/function-spec.js';
import { LONGEST_NAME, parseFunctionName } from '../function-name.js';
import { namesAnotherEncoding } from '../source-encoding.js';
import { Faultless } from '../../revisions/faultless.js';
import { type InvocationPolicy, InvocationPolicyDto } from '../../invocations/invocation-policy.js';
import { HISTORY, type HistorySetting, HistorySettingDto } from './history-setting.dto.js';
import { INVOCATION_DEFAULTS, LABELS, MetadataFields, textFault } from './metadata.dto.js';

const LONGEST_MESSAGE = 1_000;

/** What both forms of an upload hold beside the code. */
class UploadMembers extends IntersectionType(PartialType(FunctionSpec), MetadataFields) {
  @FunctionName()
  function_name: string | undefined;
}

/** The form of an upload: as the OpenAPI document describes it, and as it is checked. */
@DocumentSettings('fields')
export class UploadDto extends UploadMembers {
  @PythonFile()
  python_file: Buffer | undefined;

  @RequirementsFile()
  requirements_file?: Buffer;

  // A form has only texts: an object among its fields is sent by each client in a way of its own.
  @ApiPropertyOptional({
    type: String,
    description: 'Words to find functions by: a JSON object of strings, such as `{"team": "payments"}`.',
  })
  declare labels?: Record<string, string>;

  @ApiPropertyOptional({
    type: String,
    description: 'What calls for later have that say nothing else: a JSON object, such as `{"max_attempts": 5}`.',
  })
  declare invocation_defaults?: InvocationPolicy;

  @ApiPropertyOptional({
    type: String,
    description: 'What is kept of its calls: a JSON object, such as `{"payloads": 0.1}`.',
  })
  declare history?: HistorySetting;
}

/** The same as JSON. */
@DocumentSettings('json')
export class JsonUploadDto extends UploadMembers {
  @Code()
  code: string | undefined;

  @ApiPropertyOptional(LABELS)
  declare labels?: Record<string, string>;

  @ApiPropertyOptional({ type: InvocationPolicyDto, description: INVOCATION_DEFAULTS })
  declare invocation_defaults?: InvocationPolicy;

  @ApiPropertyOptional({ type: HistorySettingDto, description: HISTORY })
  declare history?: HistorySetting;
}

/** Settings that make no sense for one call. */
export const FIXED_OF_RUNS = ['concurrency', 'idle_timeout_ms', 'min_replicas', 'max_replicas'] as const;

/** What both forms of a run hold beside the code. */
class RunMembers extends OmitType(PartialType(FunctionSpec), FIXED_OF_RUNS) {
  @FunctionName()
  function_name: string | undefined;

  @ApiPropertyOptional({
    type: String,
    description: 'What the callable gets; empty where it is left out. At most 64 KiB; upload a function for more.',
  })
  @IsOptional()
  @Faultless((payload) => (typeof payload === 'string' ? undefined : 'payload must be a text.'))
  payload?: string;
}

/** The form of a run. */
@DocumentSettings('fields', FIXED_OF_RUNS)
export class RunDto extends RunMembers {
  @PythonFile()
  python_file: Buffer | undefined;

  @RequirementsFile()
  requirements_file?: Buffer;
}

/** The same as JSON. */
@DocumentSettings('json', FIXED_OF_RUNS)
export class JsonRunDto extends RunMembers {
  @Code()
  code: string | undefined;
}

/** What both forms of a further revision hold beside the code. */
class RevisionMembers extends PartialType(FunctionSpec) {
  @ApiPropertyOptional({
    type: String,
    minLength: 1,
    maxLength: LONGEST_NAME,
    description: 'The callable inside the file; as before where it is left out.',
  })
  @IsOptional()
  @Faultless(functionNameFault)
  function_name: string | undefined;

  @ApiPropertyOptional({
    type: String,
    maxLength: LONGEST_MESSAGE,
    description: 'Why there is this revision, for people.',
  })
  @IsOptional()
  @Faultless((message) => textFault('message', message, LONGEST_MESSAGE))
  message?: string;
}

/** A further revision as a form: what is left out is as in the revision that has the calls. */
@DocumentSettings('fields')
export class RevisionUploadDto extends RevisionMembers {
  @ApiPropertyOptional({
    type: 'string',
    format: 'binary',
    description: 'The Python file; as before where it is left out.',
  })
  @IsOptional()
  @Faultless(fileFault)
  python_file: Buffer | undefined;

  @RequirementsFile()
  requirements_file?: Buffer;
}

/** The same as JSON. */
@DocumentSettings('json')
export class JsonRevisionUploadDto extends RevisionMembers {
  @ApiPropertyOptional({
    type: String,
    minLength: 1,
    description: 'The text of the Python file; as before where it is left out.',
  })
  @IsOptional()
  @Faultless(codeFault)
  code: string | undefined;
}

function fileFault(file: unknown): string | undefined {
  if (!Buffer.isBuffer(file)) return 'python_file is missing: send the Python file as a file part of that name.';
  if (file.length === 0) return 'python_file is empty.';
  if (!isUtf8(file) && !namesAnotherEncoding(file)) {
    return 'python_file is not UTF-8 text, and its first two lines name no other encoding (# coding: latin-1).';
  }
  return file.includes(0) ? 'python_file holds a NUL byte, which Python source may not.' : undefined;
}

/** The callable that is asked for in the code. */
function FunctionName(): PropertyDecorator {
  return applyDecorators(
    ApiProperty({
      type: String,
      minLength: 1,
      maxLength: LONGEST_NAME,
      description: 'The callable inside the file that takes the payload.',
      example: 'handle',
    }),
    Faultless(functionNameFault),
  );
}

/** The code in a form. */
function PythonFile(): PropertyDecorator {
  return applyDecorators(
    ApiProperty({
      type: 'string',
      format: 'binary',
      description: 'One Python source file, UTF-8 unless it names another encoding (PEP 263). Its own name is ignored.',
    }),
    Faultless(fileFault),
  );
}

/** The code in JSON. */
function Code(): PropertyDecorator {
  return applyDecorators(
    ApiProperty({
      type: String,
      minLength: 1,
      description: 'The text of one Python source file.',
      example: 'def handle(payload: str):\n    return payload\n',
    }),
    Faultless(codeFault),
  );
}

/** The part of a form that holds what its field requirements would. */
function RequirementsFile(): PropertyDecorator {
  return applyDecorators(
    ApiPropertyOptional({
      type: 'string',
      format: 'binary',
      description: 'A requirements file, or a lock with hashes, in place of the field requirements.',
    }),
    IsOptional(),
    Faultless(requirementsFileFault),
  );
}

function requirementsFileFault(file: unknown): string | undefined {
  return Buffer.isBuffer(file) && isUtf8(file) ? undefined : 'requirements_file is not UTF-8 text.';
}

function codeFault(code: unknown): string | undefined {
  if (code === undefined) return 'code is missing: send the text of the Python file.';
  if (typeof code !== 'string') return 'code must be a string, the text of the Python file.';
  if (code.length === 0) return 'code is empty.';
  if (!code.isWellFormed()) return 'code holds half of a surrogate pair, which is no text.';
  if (namesAnotherEncoding(Buffer.from(code))) {
    return 'code is sent as text, which is UTF-8, and its first two lines name another encoding: leave that out, or send the file as a form.';
  }
  return code.includes('\0') ? 'code holds a NUL, which Python source may not.' : undefined;
}

function functionNameFault(name: unknown): string | undefined {
  if (name === undefined) return 'function_name is missing: send the name of the function inside the file.';
  if (typeof name !== 'string') return 'function_name must be a string, the name of the function inside the file.';
  const parsed = parseFunctionName(name);
  return 'fault' in parsed ? parsed.fault : undefined;
}
