import {
  type Document,
  isMap,
  isScalar,
  LineCounter,
  type Pair,
  parseDocument,
  type Scalar,
  type YAMLError,
} from 'yaml';
import { Failure } from '../failure.js';
import { nearest } from './nearest.js';
import {
  checkedMap,
  checkedValue,
  HISTORY,
  type HistorySetting,
  INVOCATION_DEFAULTS,
  type InvocationDefaults,
  type Setting,
  SETTINGS,
  type Settings,
} from './settings.js';

export interface FaasFile {
  readonly file?: string;
  readonly name?: string;
  readonly handler?: string;
  readonly description?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly public?: boolean;
  readonly invocation_defaults?: InvocationDefaults;
  readonly history?: HistorySetting;
  readonly settings: Settings;
}

const TEXTS = ['file', 'name', 'handler', 'description'];
const SWITCH = 'public';
/** Fields that are maps of settings. */
const GROUPS = new Map<string, readonly Setting[]>([
  ['invocation_defaults', INVOCATION_DEFAULTS],
  ['history', HISTORY],
]);

/** What faas.yaml says. Every fault is named at once, with its line. */
export function parseFaasFile(text: string, path: string, settings: readonly Setting[] = SETTINGS): FaasFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const at = (offset: number) => `${path}:${lines.linePos(offset).line}`;
  const [broken] = document.errors;
  if (broken !== undefined) throw new Failure('usage', `${at(broken.pos[0])}: ${reasonOf(broken)}`);
  const { contents } = document;
  if (!isMap<Scalar>(contents)) throw new Failure('usage', `${path} must hold fields, such as "file: hello.py".`);
  if (!contents.items.every(({ key }) => isScalar(key)))
    throw new Failure('usage', `${path}: a field must have a name.`);
  const values = valuesOf(document, path);
  const faults: string[] = [];
  const found: Record<string, unknown> = {};
  const foundSettings: Record<string, unknown> = {};
  for (const pair of contents.items as Pair<Scalar>[]) {
    const name = String(pair.key.value);
    const setting = settings.find((one) => one.name === name);
    const checked = checkedField(name, setting, values[name], settings);
    if ('fault' in checked) faults.push(`${at(pair.key.range?.[0] ?? 0)}: ${checked.fault}`);
    else (setting === undefined ? found : foundSettings)[name] = checked.value;
  }
  if (faults.length > 0) throw new Failure('usage', faults.join('\n'));
  return { ...found, settings: foundSettings };
}

function reasonOf({ code, message }: YAMLError): string {
  if (code === 'MULTIPLE_DOCS') return 'there may be one document only.';
  // The place comes before it.
  return (message.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, '');
}

function valuesOf(document: Document, path: string): Readonly<Record<string, unknown>> {
  try {
    return document.toJS() as Readonly<Record<string, unknown>>;
  } catch (error) {
    // Such as aliases that refer to nothing, or to too much.
    throw new Failure('usage', `${path} can't be read: ${(error as Error).message}`);
  }
}

function checkedField(
  name: string,
  setting: Setting | undefined,
  value: unknown,
  settings: readonly Setting[],
): { value: unknown } | { fault: string } {
  const named = (checked: { value: unknown } | { fault: string }) =>
    'fault' in checked ? { fault: `"${name}" ${checked.fault}` } : checked;
  if (setting !== undefined) return named(checkedValue(setting, value));
  if (name === 'labels') return named(checkedMap(value));
  if (name === SWITCH) return named(typeof value === 'boolean' ? { value } : { fault: 'must be true or false' });
  const group = GROUPS.get(name);
  if (group !== undefined) return checkedGroup(name, group, value);
  if (TEXTS.includes(name)) return named(typeof value === 'string' ? { value } : { fault: 'must be a text' });
  const known = [...TEXTS, SWITCH, 'labels', ...GROUPS.keys(), ...settings.map((one) => one.name)];
  const meant = nearest(name, known);
  return { fault: `unknown field "${name}"${meant === undefined ? '' : `; did you mean "${meant}"?`}` };
}

function checkedGroup(
  group: string,
  settings: readonly Setting[],
  value: unknown,
): { value: object } | { fault: string } {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { fault: `"${group}" must be a map` };
  for (const [name, one] of Object.entries(value)) {
    const setting = settings.find((known) => known.name === name);
    if (setting === undefined) return { fault: `"${group}" has no field "${name}"` };
    const checked = checkedValue(setting, one);
    if ('fault' in checked) return { fault: `"${group}.${name}" ${checked.fault}` };
  }
  // What is null follows the installation, as what isn't named.
  const said = Object.entries(value).filter(([, one]) => one !== null);
  return { value: Object.fromEntries(said) };
}
