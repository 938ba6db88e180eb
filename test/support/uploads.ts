import { randomUUID } from 'node:crypto';

export interface Part {
  readonly name: string;
  readonly content: string | Buffer;
  /** Makes it a file part. */
  readonly filename?: string;
  readonly contentType?: string;
  /** In place of form-data. */
  readonly disposition?: string;
}

export interface Form {
  readonly headers: { readonly 'Content-Type': string };
  readonly body: Buffer;
}

/** A multipart form written out by hand, so that it may be wrong. */
export function form(...parts: readonly Part[]): Form {
  const boundary = `----faas${randomUUID()}`;
  const pieces = parts.flatMap(({ name, content, filename, contentType, disposition = 'form-data' }) => [
    `--${boundary}\r\nContent-Disposition: ${disposition}; name="${name}"`,
    filename === undefined ? '' : `; filename="${filename}"`,
    contentType === undefined ? '' : `\r\nContent-Type: ${contentType}`,
    '\r\n\r\n',
    content,
    '\r\n',
  ]);
  const body = Buffer.concat([...pieces, `--${boundary}--\r\n`].map((piece) => Buffer.from(piece as string)));
  return { headers: { 'Content-Type': `multipart/form-data; boundary=${boundary}` }, body };
}

export function file(content: string | Buffer, filename = 'handler.py'): Part {
  return { name: 'python_file', content, filename, contentType: 'text/x-python' };
}

export function field(name: string, content: string | Buffer): Part {
  return { name, content };
}

/** A form that is right, but for what is given. */
export function upload(code: string | Buffer, name = 'handle'): Form {
  return form(file(code), field('function_name', name));
}
