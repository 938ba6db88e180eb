import { LONGEST_REQUIREMENTS } from '#libs/config/config.js';
import { NOTHING, parseRequirements, type Requirements } from './requirements.js';

/** What PEP 723 gives as its pattern, without the lines of a block, which are read one by one. */
const OPENING = /^# \/\/\/ ([a-zA-Z0-9-]+)$/;
const CLOSING = '# ///';
const MOST_LINES = 2_000;
const MOST_CODE_LINES = 1_000_000;

type Read = Requirements | { readonly fault: string } | undefined;

/**
 * What the code says that it needs in a block of PEP 723; undefined: it has none. Only the two members that the standard
 * has are taken, written as tools write them: `requires-python` and `dependencies`.
 */
export function metadataIn(code: string): Read {
  const blocks = blocksIn(code).filter(({ type }) => type === 'script');
  const [first, second] = blocks;
  if (first === undefined) return undefined;
  if (second !== undefined) return { fault: 'The code has more than one block of script metadata (PEP 723).' };
  if (first.lines.length > MOST_LINES) return { fault: `Its script metadata has more than ${MOST_LINES} lines.` };
  if (first.lines.reduce((sum, { length }) => sum + length, 0) > LONGEST_REQUIREMENTS) {
    return { fault: `Its script metadata (PEP 723) has more than ${LONGEST_REQUIREMENTS} characters.` };
  }
  return requirementsIn(first.lines);
}

interface Block {
  readonly type: string;
  readonly lines: readonly string[];
}

/** A block goes on to the last closing line of the comment that it is in. */
function blocksIn(code: string): Block[] {
  if (!code.includes('# /// ')) return [];
  const blocks: Block[] = [];
  // Python passes over a byte order mark too.
  const lines = code.replace(/^\uFEFF/, '').split(/\r\n|\r|\n/, MOST_CODE_LINES);
  for (let at = 0; at < lines.length; at += 1) {
    const type = OPENING.exec(lines[at] ?? '')?.[1];
    if (type === undefined) continue;
    let end = at + 1;
    let closed: number | undefined;
    while (end < lines.length && /^#( .*)?$/.test(lines[end] ?? '')) {
      if (lines[end] === CLOSING) closed = end;
      end += 1;
    }
    if (closed === undefined) {
      // Nor does any that begins in between have an end.
      at = end - 1;
      continue;
    }
    const content = lines.slice(at + 1, closed).map((line) => line.slice(2));
    blocks.push({ type, lines: content });
    at = closed;
  }
  return blocks;
}

/** On one line; a tab may stand in it as it is. */
const STRING = /"(?:[^"\\\p{Cc}]|\t|\\["\\])*"|'(?:[^'\p{Cc}]|\t)*'/uy;

/** The part of TOML in which such blocks are written; what else there may be (`[tool.…]`) is left alone. */
function requirementsIn(lines: readonly string[]): Read {
  let requiresPython = '';
  let dependencies: string[] = [];
  const seen = new Set<string>();
  for (let at = 0; at < lines.length; at += 1) {
    const line = (lines[at] ?? '').trim();
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('[')) break;
    const [, key, start] = /^([A-Za-z0-9_-]+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (key === undefined || start === undefined) return unreadable(line);
    if (seen.has(key)) return { fault: `Its script metadata (PEP 723) names ${key} twice.` };
    seen.add(key);
    if (key === 'requires-python') {
      const value = stringsIn(start, 'one');
      if (value === undefined) return unreadable(line);
      [requiresPython = ''] = value.found;
    } else if (key === 'dependencies') {
      const text = [start, ...lines.slice(at + 1)].join('\n');
      const values = stringsIn(text, 'list');
      if (values === undefined) return unreadable(line);
      dependencies = values.found;
      at += text.slice(0, values.end).split('\n').length - 1;
    } else return { fault: `Its script metadata (PEP 723) has an unknown member ${JSON.stringify(key.slice(0, 60))}.` };
  }
  if (!/^[\d\s.,*<>=!~]{0,200}$/.test(requiresPython)) return unreadable(requiresPython);
  if (dependencies.some((one) => /[#\\]/.test(one) || one.includes('--'))) return unreadable('dependencies');
  const parsed = parseRequirements(dependencies.join('\n'));
  if ('fault' in parsed) return { fault: `Its script metadata (PEP 723): ${parsed.fault}` };
  const { urlFault } = parsed;
  return {
    ...NOTHING,
    ...parsed,
    requiresPython: requiresPython.replaceAll(/\s+/g, ''),
    ...(urlFault !== undefined && { urlFault: `Its script metadata (PEP 723): ${urlFault}` }),
  };
}

const BLANK = /\s*(?:#[^\n]*\s*)*/y;
const REST_OF_LINE = /[^\S\n]*(?:#[^\n]*)?(?=\n|$)/y;

/** One string, or a whole list of strings, and where its last line ends; undefined: there is none. */
function stringsIn(text: string, kind: 'one' | 'list'): { found: string[]; end: number } | undefined {
  const found: string[] = [];
  let at = 0;
  const skip = () => {
    BLANK.lastIndex = at;
    at += BLANK.exec(text)?.[0].length ?? 0;
  };
  const take = () => {
    STRING.lastIndex = at;
    const string = STRING.exec(text)?.[0];
    if (string === undefined) return false;
    at += string.length;
    const inner = string.slice(1, -1);
    found.push(string.startsWith("'") ? inner : inner.replaceAll(/\\(["\\])/g, '$1'));
    return true;
  };
  if (kind === 'list') {
    if (text[at] !== '[') return undefined;
    at += 1;
    skip();
    while (take()) {
      skip();
      if (text[at] !== ',') break;
      at += 1;
      skip();
    }
    if (text[at] !== ']') return undefined;
    at += 1;
  } else if (!take()) return undefined;
  REST_OF_LINE.lastIndex = at;
  const rest = REST_OF_LINE.exec(text);
  return rest === null ? undefined : { found, end: at + rest[0].length };
}

function unreadable(line: string): { readonly fault: string } {
  return { fault: `Its script metadata (PEP 723) can't be read at ${JSON.stringify(line.slice(0, 80))}.` };
}
