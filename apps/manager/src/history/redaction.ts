import { isJsonObject } from '#libs/json/json-scan.js';

const REDACTED = '[redacted]';

/** A text without the values that nobody is to read. */
export interface Redacted {
  readonly text: string;
  readonly isChanged: boolean;
}

/**
 * Takes from a text the values of members of these names, at any depth of its JSON and of the JSON in its strings, and
 * lists and objects that have such a name among their values, which may be pairs. A string that is no JSON and holds
 * one of the names is taken whole: it may be a form, a header or a URL. Where there is nothing to take it is as it was.
 */
export function redacted(text: string, names: readonly string[]): Redacted {
  const shown = new Redaction(names).ofText(text);
  return { text: shown, isChanged: shown !== text };
}

/** The same of what is JSON, and stays it. */
export function redactedJson(json: string, names: readonly string[]): string {
  const redaction = new Redaction(names);
  return redaction.mayMention(json) ? redaction.ofJson(json, JSON.parse(json)) : json;
}

const MASKS = new WeakMap<readonly string[], RegExp>();

/**
 * Takes what a sentence, such as an exception's, has after these names as `name=value`, `name: value` and as members
 * of JSON. What it says otherwise nobody can tell.
 */
export function masked(sentence: string, names: readonly string[]): string {
  let mask = MASKS.get(names);
  if (mask === undefined) {
    const all = names.map(plain).filter((name) => name !== '');
    const anyOf = all.map((name) => Array.from(name, (one) => RegExp.escape(one)).join('[-_]*')).join('|');
    // Without names there is nothing that it finds.
    mask = all.length === 0 ? /$^/g : new RegExp(`((?:${anyOf})\\\\*["']?\\s*[:=]\\s*)${VALUE}`, 'gi');
    MASKS.set(names, mask);
  }
  return sentence.replaceAll(mask, `$1${REDACTED}`);
}

/** To its last quote or to the end of its word, with the scheme of credentials. */
const VALUE = String.raw`(?:"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|(?:(?:basic|bearer)\s+)?[^\s,;&)}\]]+)`;

class Redaction {
  private readonly names: ReadonlySet<string>;

  constructor(names: readonly string[]) {
    this.names = new Set(names.map(plain).filter((name) => name !== ''));
  }

  /** A name may be written with escapes, at any depth: only what has none is told from its text. */
  mayMention(text: string): boolean {
    return text.includes('\\') || this.mentions(text) > 0;
  }

  ofText(text: string): string {
    if (!this.mayMention(text)) return text;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return this.mentions(text) > 0 ? REDACTED : text;
    }
    if (typeof value === 'object' && value !== null) return this.ofJson(text, value);
    const isToTake = typeof value === 'string' ? this.ofText(value) !== value : this.mentions(text) > 0;
    return isToTake ? REDACTED : text;
  }

  ofJson(json: string, value: unknown): string {
    const shown = this.of(value);
    const rewritten = JSON.stringify(shown);
    // One member hides another one of its name, but for whoever reads the text.
    return shown === value && this.mentions(rewritten) === this.mentions(json) ? json : rewritten;
  }

  /** The same value where there is nothing to take. */
  private of(value: unknown): unknown {
    if (typeof value === 'string') return this.ofText(value);
    if (Array.isArray(value)) {
      if (value.some((one) => this.isName(one))) return REDACTED;
      const shown = value.map((one) => this.of(one));
      return shown.some((one, index) => one !== value[index]) ? shown : value;
    }
    if (!isJsonObject(value)) return value;
    const members = Object.entries(value);
    if (members.some(([, one]) => this.isName(one))) return REDACTED;
    const shown = members.map(([name, one]) => [name, this.isName(name) ? REDACTED : this.of(one)] as const);
    return shown.some(([, one], index) => one !== members[index]?.[1]) ? Object.fromEntries(shown) : value;
  }

  private isName(value: unknown): boolean {
    return typeof value === 'string' && this.names.has(plain(value));
  }

  private mentions(text: string): number {
    const searched = plain(unescaped(text));
    let found = 0;
    for (const name of this.names) {
      for (let at = searched.indexOf(name); at >= 0; at = searched.indexOf(name, at + 1)) found += 1;
    }
    return found;
  }
}

function plain(text: string): string {
  return text.toLowerCase().replaceAll(/[-_]/g, '');
}

/** More often than anybody escapes escapes. */
const MOST_ESCAPED = 8;

/** Whatever is written with escapes, also with escaped ones. */
function unescaped(text: string): string {
  let shown = text;
  for (let times = 0; times < MOST_ESCAPED && shown.includes('\\u'); times += 1) {
    shown = shown.replaceAll(/\\+u([0-9a-f]{4})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
  return shown.replaceAll('\\', '');
}
