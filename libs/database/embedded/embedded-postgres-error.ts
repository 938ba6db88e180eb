export type EmbeddedPostgresFault =
  | 'platform'
  | 'permission'
  | 'read_only'
  | 'unusable'
  | 'disk_full'
  | 'other_version'
  | 'wrong_password'
  | 'timeout'
  | 'failed';

/** Why the embedded server can't run; the message says what to do, for the person at the log. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';

  constructor(
    readonly fault: EmbeddedPostgresFault,
    message: string,
    options: { cause?: unknown } = {},
  ) {
    super(message, options);
  }
}

/** System calls by which a place for the database is made. */
const MAKING = new Set(['mkdir', 'mkdtemp', 'symlink', 'chown', 'chmod']);

const LOG_LINES = 12;

/** The last lines of a server log, indented to be read below a sentence. */
export function lastLines(log: string): string {
  const lines = log.trimEnd().split('\n').slice(-LOG_LINES);
  return lines.map((line) => `  ${line}`).join('\n');
}

/** Turns the output of `initdb` or of a server that ended into an error that says what to do. */
export function explainOutput(program: string, home: string, output: string): EmbeddedPostgresError {
  const tail = output.trim() === '' ? '' : `\nLast lines of its log:\n${lastLines(output)}`;
  const say = (fault: EmbeddedPostgresFault, sentence: string) => new EmbeddedPostgresError(fault, sentence + tail);
  if (/No space left on device|Disk quota exceeded|Check free disk space/i.test(output)) {
    return say('disk_full', `The disk that holds ${home} is full: free some space, then start again.`);
  }
  if (/Read-only file system/i.test(output)) {
    return say('read_only', `${home} is on a read-only file system: choose another FUNCTION_STORAGE_DIR.`);
  }
  if (/database files are incompatible with server/i.test(output)) {
    return say(
      'other_version',
      `The database in ${home} was made by another PostgreSQL: dump it there and load it here.`,
    );
  }
  if (/Permission denied/i.test(output)) {
    return say(
      'permission',
      `${program} was refused access below ${home}: its files must belong to the server's user.`,
    );
  }
  if (/could not look up effective user ID/i.test(output)) {
    return say(
      'failed',
      `${program} needs a user that the system knows: run as one that exists, or name a server with DATABASE_URL.`,
    );
  }
  return say('failed', `${program} could not run on ${home}.`);
}

/** Turns a fault of the file system into an error that says what to do; other errors pass through. */
export function explainFileFault(error: unknown, path: string): unknown {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const say = (fault: EmbeddedPostgresFault, sentence: string) =>
    new EmbeddedPostgresError(fault, sentence, { cause: error });
  if (code === 'EROFS') {
    return say('read_only', `${path} is on a read-only file system: choose another FUNCTION_STORAGE_DIR.`);
  }
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return say('disk_full', `The disk that holds ${path} is full: free some space, then start again.`);
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return say(
      'permission',
      `${path} can't be written by this user: change its owner, or choose another FUNCTION_STORAGE_DIR.`,
    );
  }
  if (code === 'EEXIST' || code === 'ENOTDIR') {
    return say('unusable', `${path} is a file, or lies below one: choose another FUNCTION_STORAGE_DIR.`);
  }
  // Whatever else a file system says to making a folder: /proc and its like take none.
  if (MAKING.has((error as NodeJS.ErrnoException).syscall ?? '')) {
    return say('unusable', `${path} can't be made (${code}): choose another FUNCTION_STORAGE_DIR.`);
  }
  return error;
}
