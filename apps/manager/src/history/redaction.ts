import { isJsonObject } from '#libs/json/json-scan.js';

const REDACTED = '[redacted]';

/** A text without the values that nobody is to read. */
export interface Redacted {
  readonly text: string;
  readonly isChanged: boolean;
}

/**
 * Takes from a text the values of members of these names, at any depth of its JSON and of the JSON in its strings. A
 * string that is no JSON and holds one of the names is taken whole: it may be a form, a header or a URL.
 */
export function redacted(text: string, names: readonly string[]): Redacted {
  const redaction = new Redaction(names);
  return { text: redaction.ofText(text), isChanged: redaction.isChanged };
}

/** The same of what is JSON. */
export function redactedJson(json: string, names: readonly string[]): string {
  const redaction = new Redaction(names);
  return redaction.isMentionedIn(json) ? JSON.stringify(redaction.of(JSON.parse(json) as unknown)) : json;
}

class Redaction {
  isChanged = false;
  private readonly names: ReadonlySet<string>;

  constructor(names: readonly string[]) {
    this.names = new Set(names.map(plain));
  }

  isMentionedIn(text: string): boolean {
    // A name may be written with escapes.
    const searched = plain(text.includes('\\u') ? unescaped(text) : text);
    for (const name of this.names) if (searched.includes(name)) return true;
    return false;
  }

  ofText(text: string): string {
    if (!this.isMentionedIn(text)) return text;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return this.taken();
    }
    return typeof value === 'object' && value !== null ? JSON.stringify(this.of(value)) : this.taken();
  }

  of(value: unknown): unknown {
    if (typeof value === 'string') return this.ofText(value);
    if (Array.isArray(value)) return value.map((one) => this.of(one));
    if (!isJsonObject(value)) return value;
    const members = Object.entries(value).map(([name, one]) => [
      name,
      this.names.has(plain(name)) ? this.taken() : this.of(one),
    ]);
    return Object.fromEntries(members);
  }

  private taken(): string {
    this.isChanged = true;
    return REDACTED;
  }
}

function plain(text: string): string {
  return text.toLowerCase().replaceAll(/[-_]/g, '');
}

function unescaped(text: string): string {
  return text.replaceAll(/\\u([0-9a-fA-F]{4})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
