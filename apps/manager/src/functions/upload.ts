import busboy from 'busboy';
import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { AppError } from '#libs/errors/app-error.js';
import { UnsupportedEncoding } from '#libs/errors/errors.js';
import { InvalidUpload, UploadTooLarge } from './errors.js';
import { parseFunctionName } from './function-name.js';

/** What a valid upload asks for. */
export interface Upload {
  readonly functionName: string;
  readonly code: Buffer;
  readonly timeoutMs: number | undefined;
}

export interface UploadLimits {
  readonly fileBytes: number;
  readonly maxTimeoutMs: number;
}

interface Form {
  file?: Buffer;
  readonly fields: Map<string, string>;
}

const FILE = 'python_file';
const NAME = 'function_name';
const TIMEOUT = 'timeout_ms';
const FIELD_BYTES = 4_096;
/** What the other parts and the part headers may add to the file. */
const FORM_OVERHEAD_BYTES = 256 * 1024;

/** Reads and checks one upload. Throws {@link InvalidUpload} with the field at fault, or {@link UploadTooLarge}. */
export async function readUpload(request: IncomingMessage, limits: UploadLimits): Promise<Upload> {
  const encoding = request.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') throw new UnsupportedEncoding(encoding);
  if (Number(request.headers['content-length'] ?? 0) > limits.fileBytes + FORM_OVERHEAD_BYTES) {
    throw new UploadTooLarge(limits.fileBytes);
  }
  const form = await readForm(request, limits.fileBytes);
  return {
    code: checkedCode(form.file),
    functionName: checkedName(form.fields.get(NAME)),
    timeoutMs: checkedTimeout(form.fields.get(TIMEOUT), limits.maxTimeoutMs),
  };
}

function readForm(request: IncomingMessage, fileBytes: number): Promise<Form> {
  return new Promise((resolve, reject) => {
    const fail = (error: AppError) => {
      request.unpipe(parser);
      reject(error);
    };
    let parser: busboy.Busboy;
    try {
      parser = busboy({
        headers: request.headers,
        defParamCharset: 'utf8',
        limits: { fileSize: fileBytes, fieldSize: FIELD_BYTES, fields: 50, files: 10, parts: 60, headerPairs: 50 },
      });
    } catch (error) {
      reject(new InvalidUpload('form', `Send the upload as multipart/form-data: ${(error as Error).message}.`));
      return;
    }
    const form: Form = { fields: new Map() };
    parser.on('file', (name, stream) => {
      if (name !== FILE) {
        if (name === NAME || name === TIMEOUT)
          fail(new InvalidUpload(name, `${name} must be a text field, not a file.`));
        stream.resume();
        return;
      }
      void collect(stream).then(
        (content) => {
          if (content === undefined) fail(new UploadTooLarge(fileBytes));
          else if (form.file !== undefined) fail(new InvalidUpload(FILE, `${FILE} was sent more than once.`));
          else form.file = content;
        },
        () => fail(new InvalidUpload('form', 'The upload ended in the middle of the file.')),
      );
    });
    parser.on('field', (name, value, info) => {
      if (name === FILE) {
        fail(new InvalidUpload(FILE, `${FILE} must be a file part: send it with a file name.`));
      } else if (info.valueTruncated || info.nameTruncated) {
        fail(new InvalidUpload(name.slice(0, 64), `A form field is longer than ${FIELD_BYTES} bytes.`));
      } else if (form.fields.has(name)) {
        fail(new InvalidUpload(name, `${name} was sent more than once.`));
      } else form.fields.set(name, value);
    });
    const tooMany = () => fail(new InvalidUpload('form', 'The form has too many parts.'));
    parser.on('partsLimit', tooMany).on('filesLimit', tooMany).on('fieldsLimit', tooMany);
    parser.on('error', (error) => {
      fail(new InvalidUpload('form', `The multipart form is malformed: ${(error as Error).message}.`));
    });
    // The file's last chunk is collected a turn after the parser closes.
    parser.on('close', () => setImmediate(() => resolve(form)));
    request.on('error', () => fail(new InvalidUpload('form', 'The upload was cut off.')));
    request.on('close', () => {
      if (!request.complete) fail(new InvalidUpload('form', 'The upload was cut off.'));
    });
    request.pipe(parser);
  });
}

/** The stream's content; undefined when it reached busboy's size limit. */
async function collect(stream: Readable & { truncated?: boolean }): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return stream.truncated === true ? undefined : Buffer.concat(chunks);
}

function checkedCode(file: Buffer | undefined): Buffer {
  if (file === undefined) {
    throw new InvalidUpload(FILE, `${FILE} is missing: send the Python file as a file part of that name.`);
  }
  if (file.length === 0) throw new InvalidUpload(FILE, `${FILE} is empty.`);
  if (!isUtf8(file)) throw new InvalidUpload(FILE, `${FILE} is not UTF-8 text.`);
  if (file.includes(0)) throw new InvalidUpload(FILE, `${FILE} holds a NUL byte, which Python source may not.`);
  return file;
}

function checkedName(text: string | undefined): string {
  if (text === undefined) {
    throw new InvalidUpload(NAME, `${NAME} is missing: send the name of the function inside the file.`);
  }
  const parsed = parseFunctionName(text);
  if ('fault' in parsed) throw new InvalidUpload(NAME, parsed.fault);
  return parsed.name;
}

function checkedTimeout(text: string | undefined, maxTimeoutMs: number): number | undefined {
  if (text === undefined) return undefined;
  const timeoutMs = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
  if (!(timeoutMs >= 1 && timeoutMs <= maxTimeoutMs)) {
    throw new InvalidUpload(TIMEOUT, `${TIMEOUT} must be a whole number of milliseconds from 1 to ${maxTimeoutMs}.`);
  }
  return timeoutMs;
}
