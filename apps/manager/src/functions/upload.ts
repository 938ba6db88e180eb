import busboy from 'busboy';
import { validateSync } from 'class-validator';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { AppError } from '#libs/errors/app-error.js';
import { UnsupportedEncoding } from '#libs/errors/errors.js';
import { Chunks } from '../memory/chunks.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import {
  type FunctionSpec,
  resolveSpec,
  SETTING_NAMES,
  type SettingName,
  type SpecPolicy,
} from '../revisions/function-spec.js';
import { UploadDto } from './dto/upload.dto.js';
import { InvalidUpload, UploadTooLarge } from './errors.js';
import { asPythonReads } from './function-name.js';

/** What a valid upload asks for. */
export interface Upload {
  readonly functionName: string;
  readonly code: Buffer;
  readonly spec: FunctionSpec;
  /** The settings that it names. */
  readonly said: readonly SettingName[];
}

interface Form {
  file?: Buffer;
  readonly fields: Map<string, string>;
}

const FILE = 'python_file';
const NAME = 'function_name';
const TEXT_FIELDS: readonly string[] = [NAME, ...SETTING_NAMES];
const MULTIPART = /^multipart\/form-data\b/i;
const FIELD_BYTES = 4_096;
/** What the other parts and the part headers may add to the file. */
const FORM_OVERHEAD_BYTES = 256 * 1024;

/**
 * Reads and checks one upload. Throws {@link InvalidUpload} with the field at fault, {@link UploadTooLarge}, or
 * {@link MemoryExhausted} when `reservation` has no room for it.
 */
export async function readUpload(
  request: IncomingMessage,
  fileBytes: number,
  policy: SpecPolicy,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<Upload> {
  const encoding = request.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') throw new UnsupportedEncoding(encoding);
  // Busboy would read forms of the other kind as well.
  if (!MULTIPART.test(request.headers['content-type'] ?? '')) {
    throw new InvalidUpload('form', 'Send the upload as multipart/form-data.');
  }
  if (Number(request.headers['content-length'] ?? 0) > fileBytes + FORM_OVERHEAD_BYTES) {
    throw new UploadTooLarge(fileBytes);
  }
  return checked(await readForm(request, fileBytes, reservation), policy);
}

function checked({ file, fields }: Form, policy: SpecPolicy): Upload {
  const settings = Object.fromEntries(SETTING_NAMES.map((name) => [name, numberIn(fields.get(name))]));
  const upload = Object.assign(new UploadDto(), settings, { [FILE]: file, [NAME]: fields.get(NAME) });
  const [fault] = validateSync(upload, { stopAtFirstError: true });
  if (fault) throw new InvalidUpload(fault.property, Object.values(fault.constraints ?? {}).join(' '));
  const { python_file: code, function_name: name, ...asked } = upload;
  const said = SETTING_NAMES.filter((setting) => asked[setting] !== undefined);
  const spec = resolveSpec(Object.fromEntries(said.map((setting) => [setting, asked[setting]])), policy);
  return { code: code as Buffer, functionName: asPythonReads(name as string), spec, said };
}

/** What is no whole number stays as it is, for the rules to refuse. */
function numberIn(text: string | undefined): number | string | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : text;
}

function readForm(
  request: IncomingMessage,
  fileBytes: number,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<Form> {
  return new Promise((resolve, reject) => {
    const fail = (error: AppError) => {
      request.unpipe(parser);
      // Most clients read no answer before they have sent everything. The server's time limit for requests bounds that.
      request.resume();
      reject(error);
    };
    let parser: busboy.Busboy;
    try {
      parser = busboy({
        headers: request.headers,
        defParamCharset: 'utf8',
        // Busboy truncates a file that reaches its limit, so a file of the full size needs one byte more.
        limits: { fileSize: fileBytes + 1, fieldSize: FIELD_BYTES, parts: 60, headerPairs: 50 },
      });
    } catch (error) {
      reject(new InvalidUpload('form', `Send the upload as multipart/form-data: ${(error as Error).message}.`));
      return;
    }
    const form: Form = { fields: new Map() };
    const files: Promise<void>[] = [];
    parser.on('file', (name, stream) => {
      if (name !== FILE) {
        fail(isTextField(name) ? new InvalidUpload(name, `${name} must be a text field, not a file.`) : unknown(name));
        stream.resume();
        return;
      }
      stream.on('limit', () => fail(new UploadTooLarge(fileBytes)));
      const collected = collect(stream, reservation).then(
        (content) => {
          if (form.file !== undefined) fail(new InvalidUpload(FILE, `${FILE} was sent more than once.`));
          else form.file = content;
        },
        (error: unknown) =>
          fail(
            error instanceof AppError
              ? error
              : new InvalidUpload('form', 'The upload ended in the middle of the file.'),
          ),
      );
      files.push(collected);
    });
    parser.on('field', (name, value, info) => {
      if (info.nameTruncated || !(name === FILE || isTextField(name))) {
        fail(unknown(name));
      } else if (name === FILE) {
        fail(new InvalidUpload(FILE, `${FILE} must be a file part: send it with a file name.`));
      } else if (info.valueTruncated) {
        fail(new InvalidUpload(name, `A form field is longer than ${FIELD_BYTES} bytes.`));
      } else if (form.fields.has(name)) {
        fail(new InvalidUpload(name, `${name} was sent more than once.`));
      } else form.fields.set(name, value);
    });
    parser.on('partsLimit', () => fail(new InvalidUpload('form', 'The form has too many parts.')));
    parser.on('error', (error) => {
      fail(new InvalidUpload('form', `The multipart form is malformed: ${(error as Error).message}.`));
    });
    parser.on('close', () => void Promise.all(files).then(() => resolve(form)));
    request.on('error', () => fail(new InvalidUpload('form', 'The upload was cut off.')));
    request.on('close', () => {
      if (!request.complete) fail(new InvalidUpload('form', 'The upload was cut off.'));
    });
    request.pipe(parser);
  });
}

function isTextField(name: string): boolean {
  return TEXT_FIELDS.includes(name);
}

function unknown(name: string | undefined): InvalidUpload {
  if (name === undefined) return new InvalidUpload('form', 'A part of the form has no name.');
  const shown = name.slice(0, 64);
  const known = [FILE, ...TEXT_FIELDS].join(', ');
  return new InvalidUpload(shown, `There is no field ${JSON.stringify(shown)}. Known: ${known}.`);
}

async function collect(stream: Readable, reservation: Pick<MemoryReservation, 'add'>): Promise<Buffer> {
  const chunks = new Chunks();
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    reservation.add(chunk.length);
    chunks.add(chunk);
  }
  return chunks.take();
}
