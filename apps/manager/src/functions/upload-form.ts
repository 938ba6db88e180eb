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
  readonly fields: Map<string, string>;
}

/** The one part that is a file. */
export const FILE = 'python_file';
/** What the other parts and the part headers may add to the file. */
export const FORM_OVERHEAD_BYTES = 256 * 1024;
/** More than the largest that any of them may have. */
const FIELD_BYTES = 64 * 1024;

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
      : unknownField(name, [FILE, ...textFields]);
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

async function collect(stream: Readable, reservation: Pick<MemoryReservation, 'add'>): Promise<Buffer> {
  const chunks = new Chunks();
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    reservation.add(chunk.length);
    chunks.add(chunk);
  }
  return chunks.take();
}
