import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { LONGEST_REQUIREMENTS } from '#libs/config/config.js';
import { UnsupportedEncoding } from '#libs/errors/errors.js';
import { isJsonObject, LONGEST_ESCAPE, PARSED_BYTES, parseBeside } from '#libs/json/json-scan.js';
import { readBounded } from '../http/body.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { faultIn } from '../revisions/faultless.js';
import {
  type FunctionSpec,
  resolveSpec,
  saidIn,
  SETTING_NAMES,
  type SettingName,
  type SpecPolicy,
} from '../revisions/function-spec.js';
import { type Metadata, METADATA_NAMES, metadataOf, UNNAMED } from './dto/metadata.dto.js';
import {
  FIXED_OF_RUNS,
  JsonRevisionUploadDto,
  JsonRunDto,
  JsonUploadDto,
  RevisionUploadDto,
  RunDto,
  UploadDto,
} from './dto/upload.dto.js';
import { InvalidUpload, UploadTooLarge } from './errors.js';
import { asPythonReads } from './function-name.js';
import { FILE, readForm, REQUIREMENTS_FILE, unknownField } from './upload-form.js';

/** What a valid upload asks for. */
export interface Upload {
  readonly functionName: string;
  readonly code: Buffer;
  readonly metadata: Metadata;
  readonly spec: FunctionSpec;
  /** The settings that it names. */
  readonly said: readonly SettingName[];
}

/** The same of one more revision: what it leaves out is as in the one before. */
export interface RevisionUpload {
  readonly functionName: string | undefined;
  readonly code: Buffer | undefined;
  readonly message: string;
  readonly settings: Partial<FunctionSpec>;
  /** Settings that follow the installation again. */
  readonly unset: readonly SettingName[];
}

/** Code that is called once. */
export interface RunUpload extends Omit<Upload, 'metadata'> {
  readonly payload: string;
}

type Dto = UploadDto | JsonUploadDto | RevisionUploadDto | JsonRevisionUploadDto | RunDto | JsonRunDto;

/** What may be sent, as a form and as JSON. */
interface Kind<Form extends Dto, Json extends Dto> {
  readonly form: new () => Form;
  readonly json: new () => Json;
  /** All members but the code. */
  readonly members: readonly string[];
}

const NAME = 'function_name';
const CODE = 'code';
/** The members of JSON that may be long. */
const LONG = [CODE, 'requirements'];
const UPLOAD = { form: UploadDto, json: JsonUploadDto, members: [NAME, ...METADATA_NAMES, ...SETTING_NAMES] };
const REVISION = {
  form: RevisionUploadDto,
  json: JsonRevisionUploadDto,
  members: [NAME, 'message', ...SETTING_NAMES],
};
const RUN_SETTINGS = SETTING_NAMES.filter((name) => !(FIXED_OF_RUNS as readonly string[]).includes(name));
const RUN = { form: RunDto, json: JsonRunDto, members: [NAME, 'payload', ...RUN_SETTINGS] };
/** Fields whose text is JSON. */
const OBJECTS: ReadonlySet<string> = new Set(['labels', 'env', 'secrets', 'invocation_defaults', 'history']);
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
  const { dto, code, settings } = await read(request, fileBytes, reservation, UPLOAD);
  return {
    code: code as Buffer,
    functionName: asPythonReads(dto.function_name as string),
    metadata: metadataOf({ ...UNNAMED, ...definedOf(dto) }),
    spec: resolveSpec(settings, policy),
    said: saidIn(settings),
  };
}

/** Reads and checks code that is to be called once, as {@link readUpload} does. */
export async function readRun(
  request: IncomingMessage,
  fileBytes: number,
  policy: SpecPolicy,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<RunUpload> {
  const { dto, code, settings } = await read(request, fileBytes, reservation, RUN);
  const asked = { ...settings, concurrency: 1, min_replicas: 0, max_replicas: 1, idle_timeout_ms: 0 };
  return {
    code: code as Buffer,
    functionName: asPythonReads(dto.function_name as string),
    payload: dto.payload ?? '',
    spec: resolveSpec(asked, policy),
    said: saidIn(asked),
  };
}

/** Reads and checks one more revision of a function, as {@link readUpload} does. */
export async function readRevision(
  request: IncomingMessage,
  fileBytes: number,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<RevisionUpload> {
  const { dto, code, settings, unset } = await read(request, fileBytes, reservation, REVISION);
  const { function_name: name, message = '' } = dto;
  return { functionName: name === undefined ? undefined : asPythonReads(name), code, message, settings, unset };
}

async function read<Form extends Dto, Json extends Dto>(
  request: IncomingMessage,
  fileBytes: number,
  reservation: Pick<MemoryReservation, 'add'>,
  kind: Kind<Form, Json>,
): Promise<{
  dto: Form | Json;
  code: Buffer | undefined;
  settings: Partial<FunctionSpec>;
  unset: readonly SettingName[];
}> {
  const { 'content-encoding': encoding, 'content-type': type = '' } = request.headers;
  if (encoding !== undefined && encoding !== 'identity') throw new UnsupportedEncoding(encoding);
  const { form, json, members } = kind;
  if (JSON_TYPE.test(type)) {
    const sent = await readJson(request, fileBytes, reservation);
    const given = knownIn(sent, members);
    const dto = checked(Object.assign(new json(), given));
    const { [CODE]: text } = given;
    const code = typeof text === 'string' ? Buffer.from(text) : undefined;
    if ((code?.length ?? 0) > fileBytes) throw new UploadTooLarge(fileBytes, CODE);
    return { dto, code, settings: settingsIn(dto), unset: SETTING_NAMES.filter((name) => sent[name] === null) };
  }
  // Busboy would read forms of the other kind as well.
  if (!MULTIPART.test(type)) {
    throw new InvalidUpload('form', 'Send the upload as multipart/form-data, or as application/json.');
  }
  const { file, requirements, fields } = await readForm(request, fileBytes, members, reservation);
  const values = { ...valuesOf(fields), ...(requirements && fromFile(requirements, fields)) };
  const dto = checked(Object.assign(new form(), values, file && { [FILE]: file }));
  return { dto, code: file, settings: settingsIn(dto), unset: [] };
}

function fromFile(file: Buffer, fields: ReadonlyMap<string, string>): Record<string, unknown> {
  if (fields.has('requirements')) {
    throw new InvalidUpload(REQUIREMENTS_FILE, `Send either requirements or ${REQUIREMENTS_FILE}.`);
  }
  return { [REQUIREMENTS_FILE]: file, requirements: file.toString() };
}

/** A form knows only texts. What doesn't have the form of its kind stays a text, for the rules to refuse. */
function valuesOf(fields: ReadonlyMap<string, string>): Record<string, unknown> {
  const values = [...fields].map(([name, text]) => {
    // What is null would count as left out.
    if (OBJECTS.has(name)) return [name, objectIn(text) ?? text];
    if (name === 'enabled' || name === 'public') return [name, booleanIn(text)];
    if (name === 'requirements' || name === 'handler_kind') return [name, text];
    return [name, (SETTING_NAMES as readonly string[]).includes(name) ? numberIn(text) : text];
  });
  return Object.fromEntries(values) as Record<string, unknown>;
}

/** A member that is null is as good as none. */
function knownIn(given: Readonly<Record<string, unknown>>, members: readonly string[]): Record<string, unknown> {
  const known = Object.entries(given).filter(([, value]) => value !== null);
  for (const [name] of known) {
    if (name !== CODE && !members.includes(name)) throw unknownField(name, [CODE, ...members]);
  }
  return Object.fromEntries(known);
}

function checked<T extends Dto>(dto: T): T {
  const fault = faultIn(dto);
  if (fault) throw new InvalidUpload(fault.field, fault.message);
  return dto;
}

function settingsIn(dto: Partial<FunctionSpec>): Partial<FunctionSpec> {
  return Object.fromEntries(saidIn(dto).map((name) => [name, dto[name]]));
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
  const most = (fileBytes + LONGEST_REQUIREMENTS) * LONGEST_ESCAPE + PARSED_BYTES;
  const body = await readBounded(request, most, reservation, {
    tooLarge: () => new UploadTooLarge(fileBytes, CODE),
    cutOff: () => new InvalidUpload('body', 'The upload was cut off.'),
  });
  if (!isUtf8(body)) throw new InvalidUpload('body', 'The body is not UTF-8.');
  const parsed = parseBeside(body, LONG);
  if (parsed === 'malformed') throw new InvalidUpload('body', 'The body is not JSON.');
  if (parsed === 'more_beside') {
    throw new InvalidUpload('body', `The body holds more than ${PARSED_BYTES} bytes beside ${LONG.join(' and ')}.`);
  }
  const { value } = parsed;
  if (!isJsonObject(value)) throw new InvalidUpload('body', 'The body is not a JSON object.');
  return value;
}

function numberIn(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}

function booleanIn(text: string): boolean | string {
  return text === 'true' || text === 'false' ? text === 'true' : text;
}

function objectIn(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
