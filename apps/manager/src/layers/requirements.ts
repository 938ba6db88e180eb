import { LONGEST_REQUIREMENTS } from '#libs/config/config.js';

const MOST_LINES = 20_000;

const NAME = '[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?';
const EXTRAS = `\\[\\s*(?:${NAME}\\s*(?:,\\s*${NAME}\\s*)*)?\\]`;
const CLAUSE = '(?:~=|===?|!=|<=|>=|<|>)\\s*[A-Za-z0-9.*+!_-]+';
const VERSIONS = `${CLAUSE}(?:\\s*,\\s*${CLAUSE})*`;
const MARKER = '[A-Za-z0-9_.\'"<>=!~,()* +-]+';
const HASHES = '(?:\\s+--hash=sha256:[0-9a-f]{64})*';
/** PEP 508, and hashes as in a lock. */
const REQUIREMENT = new RegExp(
  `^(?<name>${NAME})\\s*(?<extras>${EXTRAS})?\\s*(?:(?<versions>${VERSIONS})|\\(\\s*(?<bracketed>${VERSIONS})\\s*\\))?\\s*` +
    `(?:;(?<marker>${MARKER}?))?(?<hashes>${HASHES})$`,
);

/**
 * The same with a URL in place of versions. Nothing that uv would fill in from its environment (`${…}`), no login, which
 * would be shown with the lock, and of fragments the digest alone.
 */
const DIRECT = new RegExp(
  `^(?<name>${NAME})\\s*(?<extras>${EXTRAS})?\\s*@\\s*` +
    `(?<url>https://[A-Za-z0-9.-]+(?::\\d+)?/[A-Za-z0-9._~:/?&=%+,!()*-]{0,2000}(?:#sha256=[0-9a-f]{64})?)` +
    `(?:\\s+;(?<marker>${MARKER}?))?(?<hashes>${HASHES})$`,
);

/** What is to be installed, in the one form in which the same is said in the same way. */
export interface Requirements {
  /** Lines of a requirements file, empty for none. */
  readonly lines: string;
  /** Each is pinned and has hashes. */
  readonly isLock: boolean;
  /** PEP 440; empty: any. */
  readonly requiresPython: string;
  /** Why they can't be taken where packages come from an index only. */
  readonly urlFault?: string;
}

export const NOTHING: Requirements = { lines: '', isLock: false, requiresPython: '' };

/** Requirements as a user has written them, or why they can't be taken. */
export function parseRequirements(text: string): Requirements | { readonly fault: string } {
  if (text.length > LONGEST_REQUIREMENTS) {
    return { fault: `requirements has ${text.length} characters, and may have ${LONGEST_REQUIREMENTS}.` };
  }
  if (text.includes('\0') || !text.isWellFormed()) return { fault: 'requirements holds characters that are no text.' };
  const physical = text.split(/\r\n|\r|\n/);
  if (physical.length > MOST_LINES) return { fault: `requirements has more than ${MOST_LINES} lines.` };
  const found: Line[] = [];
  let urlFault: string | undefined;
  for (const { number, line } of logicalLines(physical)) {
    // Of long rows of blanks the pattern would try every way to share them out.
    const requirement = line.replaceAll(/\s+/g, ' ').trim();
    if (requirement === '') continue;
    const one = requirementIn(requirement);
    if ('fault' in one) return { fault: `requirements, line ${number}: ${one.fault}` };
    found.push(one);
    if (one.hasUrl) urlFault ??= `requirements, line ${number}: ${namesUrl(requirement)}`;
  }
  const lines = found.map(({ line }) => line);
  // A lock is kept as it is said: its own order and hashes are what its digest is of.
  const isLock = found.length > 0 && found.every(({ isLocked }) => isLocked);
  if (!isLock && found.some(({ line }) => line.includes('--hash='))) {
    return {
      fault: 'requirements: some have hashes and some have none. Give all of them a version and hashes, or none.',
    };
  }
  const all = lines.map((line) => `${line}\n`).join('');
  return { lines: all, isLock, requiresPython: '', ...(urlFault !== undefined && { urlFault }) };
}

/** Lines that end with a backslash go on in the next one, but not from within a comment. */
function* logicalLines(physical: readonly string[]): Generator<{ readonly number: number; readonly line: string }> {
  let begun: { readonly number: number; readonly line: string } | undefined;
  for (const [index, written] of physical.entries()) {
    const text = written.replace(/(?:^|\s)#[^]*$/, '');
    const { number, line } = begun ?? { number: index + 1, line: '' };
    begun = text.endsWith('\\') ? { number, line: `${line}${text.slice(0, -1)} ` } : undefined;
    if (begun === undefined) yield { number, line: line + text };
  }
  if (begun !== undefined) yield begun;
}

interface Line {
  readonly line: string;
  readonly isLocked: boolean;
  readonly hasUrl: boolean;
}

function requirementIn(text: string): Line | { readonly fault: string } {
  const shown = JSON.stringify(text.slice(0, 80));
  if (text.startsWith('-')) return { fault: `options such as ${shown} are not taken here, only packages.` };
  if (/^(?:[^@]*@)?\s*(?:git|hg|svn|bzr)\+/i.test(text)) {
    return { fault: `${shown} names a repository, which builds have no program to read; name a package of the index.` };
  }
  const direct = DIRECT.exec(text)?.groups;
  if (direct !== undefined) return lineOf(direct, ` @ ${direct['url']}`);
  if (/^[A-Za-z0-9._\-[\] ,]*@/.test(text) || /^[a-z]+:\/\/|^file:/i.test(text)) return { fault: namesUrl(text) };
  if (/^[./~]|[\\/]|\.whl$|\.tar\.gz$/i.test(text.replace(/(;|--hash).*$/, ''))) {
    return { fault: `${shown} names a file; only packages of the index are taken.` };
  }
  const found = REQUIREMENT.exec(text)?.groups;
  if (found === undefined)
    return { fault: `${shown} is no requirement: write a name and versions, such as requests>=2.32.` };
  return lineOf(found, (found['versions'] ?? found['bracketed'] ?? '').replaceAll(/\s+/g, ''));
}

function lineOf(found: Readonly<Record<string, string | undefined>>, which: string): Line {
  const { name = '', extras = '', marker, hashes = '', url } = found;
  const condition = marker === undefined ? '' : ` ; ${marker.trim()}`;
  const digests = (hashes.match(/sha256:[0-9a-f]{64}/g) ?? []).map((digest) => ` \\\n    --hash=${digest}`);
  return {
    line: `${name}${extras.replaceAll(/\s+/g, '')}${which}${condition}${digests.join('')}`,
    isLocked: digests.length > 0 && (url !== undefined || /^==[^,*]+$/.test(which)),
    hasUrl: url !== undefined,
  };
}

function namesUrl(text: string): string {
  const form = 'as `name @ https://host/path`, without a login, where ALLOW_URL_REQUIREMENTS is set';
  return `${JSON.stringify(text.slice(0, 80))} names a URL; only packages of the index are taken, or URLs ${form}.`;
}
