import busboy from 'busboy';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { AppError } from '#libs/errors/app-error.js';
import { Chunks } from '../memory/chunks.js';
import type { MemoryReservation } from '../memory/memory-budget.js';
import { InvalidUpload, UploadTooLarge } from './errors.js';

/** The parts of a multipart form. */
export interface Form {
  file?: Buffer;
  requirements?: Buffer;
  readonly fields: Map<string, string>;
}

/** The parts that are files. */
export const FILE = 'python_file';
export const REQUIREMENTS_FILE = 'requirements_file';
const FILES: ReadonlySet<string> = new Set([FILE, REQUIREMENTS_FILE]);
/** What the other parts and the part headers may add to the file. */
export const FORM_OVERHEAD_BYTES = 256 * 1024;
/** As much as the largest may have, and a byte by which a larger one is known. */
const FIELD_BYTES = 64 * 1024 + 1;

/** Reads a form that has the file and text fields of these names. */
export function readForm(
  request: IncomingMessage,
  fileBytes: number,
  textFields: readonly string[],
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<Form> {
  const isTextField = (name: string) => textFields.includes(name);
  const unknown = (name: string | undefined) =>
    name === undefined
      ? new InvalidUpload('form', 'A part of the form has no name.')
      : unknownField(name, [FILE, REQUIREMENTS_FILE, ...textFields]);
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
      if (name === REQUIREMENTS_FILE) {
        files.push(collectRequirements(stream, form, reservation).catch((error: unknown) => fail(brokenOff(error))));
        return;
      }
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
        (error: unknown) => fail(brokenOff(error)),
      );
      files.push(collected);
    });
    parser.on('field', (name, value, info) => {
      if (info.nameTruncated || !(FILES.has(name) || isTextField(name))) {
        fail(unknown(name));
      } else if (FILES.has(name)) {
        fail(new InvalidUpload(name, `${name} must be a file part: send it with a file name.`));
      } else if (info.valueTruncated) {
        fail(new InvalidUpload(name, `A form field is longer than ${FIELD_BYTES - 1} bytes.`));
      } else if (form.fields.has(name)) {
        fail(new InvalidUpload(name, `${name} was sent more than once.`));
      } else {
        try {
          reservation.add(value.length);
          form.fields.set(name, value);
        } catch (error) {
          fail(error as AppError);
        }
      }
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

export function unknownField(name: string, known: readonly string[]): InvalidUpload {
  const shown = name.slice(0, 64);
  return new InvalidUpload(shown, `There is no field ${JSON.stringify(shown)}. Known: ${known.join(', ')}.`);
}

function brokenOff(error: unknown): AppError {
  return error instanceof AppError ? error : new InvalidUpload('form', 'The upload ended in the middle of the file.');
}

/** It is a setting as well, and as large as that may be. */
async function collectRequirements(
  stream: Readable,
  form: Form,
  reservation: Pick<MemoryReservation, 'add'>,
): Promise<void> {
  const chunks = new Chunks();
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    // What is more is read and forgotten.
    if (bytes > FIELD_BYTES) continue;
    reservation.add(chunk.length);
    chunks.add(chunk);
  }
  if (form.requirements !== undefined) {
    throw new InvalidUpload(REQUIREMENTS_FILE, `${REQUIREMENTS_FILE} was sent more than once.`);
  }
  if (bytes >= FIELD_BYTES || (stream as { truncated?: boolean }).truncated === true) {
    throw new InvalidUpload(REQUIREMENTS_FILE, `${REQUIREMENTS_FILE} is longer than ${FIELD_BYTES - 1} bytes.`);
  }
  form.requirements = chunks.take();
}

async function collect(stream: Readable, reservation: Pick<MemoryReservation, 'add'>): Promise<Buffer> {
  const chunks = new Chunks();
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    reservation.add(chunk.length);
    chunks.add(chunk);
  }
  return chunks.take();
}
