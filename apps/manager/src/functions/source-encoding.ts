/** A coding cookie as PEP 263 has it, in a comment of the first line, or of the second if the first holds no code. */
const COOKIE = /^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)/;
const NO_CODE = /^[ \t\f]*(?:#|$)/;
const UTF_8 = /^(?:utf|u8|utf8|utf-8(?:-.*)?)$/;
/** A cookie stands at the beginning of a line. */
const READ_BYTES = 16 * 1024;

/** Whether a Python file says that its text is something else than UTF-8; only Python can tell whether that is true. */
export function namesAnotherEncoding(file: Buffer): boolean {
  const beginning = file.toString('latin1', 0, READ_BYTES).replace(/^\u00EF\u00BB\u00BF/, '');
  const [first = '', second = ''] = beginning.split(/\r\n?|\n/, 2);
  const cookie = COOKIE.exec(first) ?? (NO_CODE.test(first) ? COOKIE.exec(second) : null);
  const name = cookie?.[1]?.toLowerCase().replaceAll('_', '-');
  return name !== undefined && !UTF_8.test(name);
}
