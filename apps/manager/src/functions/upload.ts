import { validateSync } from 'class-validator';
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { UnsupportedEncoding } from '#libs/errors/errors.js';
import { LONGEST_ESCAPE, PARSED_BYTES, parseBounded, STAND_IN } from '#libs/json/json-scan.js';
import { readBounded } from '../http/body.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import {
  type FunctionSpec,
  resolveSpec,
  SETTING_NAMES,
  type SettingName,
  type SpecPolicy,
} from '../revisions/function-spec.js';
import { type Metadata, METADATA_NAMES, metadataOf, UNNAMED } from './dto/metadata.dto.js';
import { JsonUploadDto, UploadDto } from './dto/upload.dto.js';
import { InvalidUpload, UploadTooLarge } from './errors.js';
import { asPythonReads } from './function-name.js';
import { FILE, type Form, FORM_OVERHEAD_BYTES, readForm, unknownField } from './upload-form.js';

/** What a valid upload asks for. */
export interface Upload {
  readonly functionName: string;
  readonly code: Buffer;
  readonly metadata: Metadata;
  readonly spec: FunctionSpec;
  /** The settings that it names. */
  readonly said: readonly SettingName[];
}

const NAME = 'function_name';
const CODE = 'code';
const OTHERS: readonly string[] = [NAME, ...METADATA_NAMES, ...SETTING_NAMES];
const MULTIPART = /^multipart\/form-data\b/i;
const JSON_TYPE = /^application\/json\b/i;

/**
 * Reads and checks one upload, a form or JSON. Throws {@link InvalidUpload} with the field at fault,
 * {@link UploadTooLarge}, or {@link MemoryExhausted} when `reservation` has no room for it.
 */
export async function readUpload(
  request: IncomingMessage,
  fileBytes: number,
  policy: SpecPolicy,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<Upload> {
  const { 'content-encoding': encoding, 'content-type': type = '', 'content-length': length = 0 } = request.headers;
  if (encoding !== undefined && encoding !== 'identity') throw new UnsupportedEncoding(encoding);
  if (JSON_TYPE.test(type)) return fromJson(await readJson(request, fileBytes, reservation), fileBytes, policy);
  // Busboy would read forms of the other kind as well.
  if (!MULTIPART.test(type)) {
    throw new InvalidUpload('form', 'Send the upload as multipart/form-data, or as application/json.');
  }
  if (Number(length) > fileBytes + FORM_OVERHEAD_BYTES) throw new UploadTooLarge(fileBytes);
  return fromForm(await readForm(request, fileBytes, OTHERS, reservation), policy);
}

function fromForm({ file, fields }: Form, policy: SpecPolicy): Upload {
  const settings = SETTING_NAMES.map((name) => [name, numberIn(fields.get(name))]);
  const upload = Object.assign(new UploadDto(), Object.fromEntries([...fields, ...settings]), {
    [FILE]: file,
    labels: objectIn(fields.get('labels')),
    env: objectIn(fields.get('env')),
    enabled: booleanIn(fields.get('enabled')),
  });
  return checked(upload, policy, () => upload.python_file as Buffer);
}

function fromJson(given: Readonly<Record<string, unknown>>, fileBytes: number, policy: SpecPolicy): Upload {
  // A member that is null is as good as none.
  const members = Object.entries(given).filter(([, value]) => value !== null);
  for (const [name] of members) {
    if (name !== CODE && !OTHERS.includes(name)) throw unknownField(name, [CODE, ...OTHERS]);
  }
  const upload = Object.assign(new JsonUploadDto(), Object.fromEntries(members));
  return checked(upload, policy, () => {
    const code = Buffer.from(upload.code as string);
    if (code.length > fileBytes) throw new UploadTooLarge(fileBytes, CODE);
    return code;
  });
}

/** @param codeOf called when all members have been found valid */
function checked(upload: UploadDto | JsonUploadDto, policy: SpecPolicy, codeOf: () => Buffer): Upload {
  const [fault] = validateSync(upload, { stopAtFirstError: true });
  if (fault) throw new InvalidUpload(fault.property, Object.values(fault.constraints ?? {}).join(' '));
  const said = SETTING_NAMES.filter((setting) => upload[setting] !== undefined);
  return {
    code: codeOf(),
    functionName: asPythonReads(upload.function_name as string),
    metadata: metadataOf({ ...UNNAMED, ...definedOf(upload) }),
    spec: resolveSpec(Object.fromEntries(said.map((setting) => [setting, upload[setting]])), policy),
    said,
  };
}

function definedOf(upload: UploadDto | JsonUploadDto): Partial<Metadata> {
  return Object.fromEntries(
    METADATA_NAMES.flatMap((name) => (upload[name] === undefined ? [] : [[name, upload[name]]])),
  );
}

async function readJson(
  request: IncomingMessage,
  fileBytes: number,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<Readonly<Record<string, unknown>>> {
  const body = await readBounded(request, fileBytes * LONGEST_ESCAPE + PARSED_BYTES, reservation, {
    tooLarge: () => new UploadTooLarge(fileBytes, CODE),
    cutOff: () => new InvalidUpload('body', 'The upload was cut off.'),
  });
  if (!isUtf8(body)) throw new InvalidUpload('body', 'The body is not UTF-8.');
  const parsed = parseBounded(body);
  if (parsed === 'malformed') throw new InvalidUpload('body', 'The body is not JSON.');
  if (parsed === 'more_beside') throw muchBeside();
  const { value, long } = parsed;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InvalidUpload('body', 'The body is not a JSON object.');
  }
  const members = value as Record<string, unknown>;
  if (long === undefined) return members;
  if (members[CODE] !== STAND_IN) throw muchBeside();
  return { ...members, [CODE]: JSON.parse(body.toString('utf8', long.start, long.end + 1)) as string };
}

function muchBeside(): InvalidUpload {
  return new InvalidUpload('body', `The body holds more than ${PARSED_BYTES} bytes beside the code.`);
}

/** What is no whole number stays as it is, for the rules to refuse. */
function numberIn(text: string | undefined): number | string | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : text;
}

function booleanIn(text: string | undefined): boolean | string | undefined {
  return text === 'true' || text === 'false' ? text === 'true' : text;
}

function objectIn(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
