import busboy from 'busboy';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { LONGEST_REQUIREMENTS } from '#libs/config/config.js';
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
export const FORM_OVERHEAD_BYTES = 256 * 1024 + LONGEST_REQUIREMENTS;
const FIELD_BYTES = 64 * 1024;
/** What the parser puts in the place of bytes that are no text, whatever character set a part names. Nobody means it. */
const REPLACEMENT = '\uFFFD';
const mostBytesOf = (name: string) => (name === 'requirements' ? LONGEST_REQUIREMENTS : FIELD_BYTES);

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
  const formBytes = fileBytes + FORM_OVERHEAD_BYTES;
  const tooLarge = () => new UploadTooLarge(formBytes, 'form');
  if (Number(request.headers['content-length']) > formBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    let arrived = 0;
    // All that arrives counts, since a field is heard of only when the parser has kept all of it.
    const count = (chunk: Buffer) => {
      arrived += chunk.length;
      try {
        if (arrived > formBytes) throw tooLarge();
        reservation.add(chunk.length);
      } catch (error) {
        fail(error as AppError);
      }
    };
    const fail = (error: AppError) => {
      request.off('data', count);
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
        // Each part has its own limit below. Busboy truncates what reaches these, so the full size needs one byte more.
        limits: {
          fileSize: Math.max(fileBytes, LONGEST_REQUIREMENTS) + 1,
          fieldSize: LONGEST_REQUIREMENTS + 1,
          parts: 60,
          headerPairs: 50,
        },
      });
    } catch (error) {
      reject(new InvalidUpload('form', `Send the upload as multipart/form-data: ${(error as Error).message}.`));
      return;
    }
    const form: Form = { fields: new Map() };
    const files: Promise<void>[] = [];
    parser.on('file', (name, stream) => {
      if (!FILES.has(name)) {
        fail(isTextField(name) ? new InvalidUpload(name, `${name} must be a text field, not a file.`) : unknown(name));
        stream.resume();
        return;
      }
      const [member, most, tooLarge] =
        name === FILE
          ? (['file', fileBytes, () => new UploadTooLarge(fileBytes)] as const)
          : (['requirements', LONGEST_REQUIREMENTS, () => tooLong(name, LONGEST_REQUIREMENTS)] as const);
      const collected = collect(stream, most, tooLarge).then(
        (content) => {
          if (form[member] !== undefined) fail(new InvalidUpload(name, `${name} was sent more than once.`));
          else form[member] = content;
        },
        (error: unknown) => fail(brokenOff(error)),
      );
      files.push(collected);
    });
    // Undefined: it names a character set that the parser doesn't know.
    parser.on('field', (name, value: string | undefined, info) => {
      if (info.nameTruncated || !(FILES.has(name) || isTextField(name))) {
        fail(unknown(name));
      } else if (FILES.has(name)) {
        fail(new InvalidUpload(name, `${name} must be a file part: send it with a file name.`));
      } else if (info.valueTruncated) {
        // First, as what is left may end in the middle of a character.
        fail(tooLong(name, mostBytesOf(name)));
      } else if (value === undefined || value.includes(REPLACEMENT)) {
        fail(new InvalidUpload(name, `${name} is not UTF-8 text, nor in the character set that its part names.`));
      } else if (Buffer.byteLength(value) > mostBytesOf(name)) {
        fail(tooLong(name, mostBytesOf(name)));
      } else if (form.fields.has(name)) {
        fail(new InvalidUpload(name, `${name} was sent more than once.`));
      } else {
        form.fields.set(name, value);
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
    request.on('data', count);
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

function tooLong(name: string, most: number): InvalidUpload {
  return new InvalidUpload(name, `${name} is longer than ${most} bytes.`);
}

async function collect(stream: Readable, most: number, tooLarge: () => AppError): Promise<Buffer> {
  const chunks = new Chunks();
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > most) throw tooLarge();
    chunks.add(chunk);
  }
  return chunks.take();
}
