import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, isAbsolute, join, relative } from 'node:path';
import { isName } from '../command.js';
import { Failure } from '../failure.js';
import type { FaasFile } from './faas-file.js';
import {
  HISTORY,
  type HistorySetting,
  INVOCATION_DEFAULTS,
  type InvocationDefaults,
  type Setting,
  type Settings,
  settingsOf,
} from './settings.js';

/** Of a flag: these besides those there are. Of faas.yaml: these alone. */
export interface Wanted<Values> {
  readonly values: Values;
  readonly alone: boolean;
}

/** What is to be deployed; what is undefined stays as it is. */
export interface Plan {
  /** As the user calls it. */
  readonly path: string;
  readonly code: string;
  readonly name: string;
  readonly handler?: string | undefined;
  readonly description?: string | undefined;
  readonly public?: boolean | undefined;
  readonly labels?: Wanted<Readonly<Record<string, string>>> | undefined;
  readonly invocation_defaults?: Wanted<InvocationDefaults> | undefined;
  readonly history?: Wanted<HistorySetting> | undefined;
  readonly message?: string | undefined;
  readonly settings: Settings;
}

export interface DeployOptions {
  readonly name?: string;
  readonly handler?: string;
  readonly description?: string;
  readonly public?: boolean;
  readonly label?: Readonly<Record<string, string>>;
  readonly message?: string;
  readonly [setting: string]: unknown;
}

const FAAS_FILE = 'faas.yaml';

/** `path` is a Python file, a faas.yaml, or a folder that has one. */
export async function planOf(path: string | undefined, options: DeployOptions): Promise<Plan> {
  const target = resolveTarget(path ?? '.');
  const file: FaasFile = target.endsWith('.py') ? { settings: {} } : await readFaasFile(target);
  const source = target.endsWith('.py') ? target : sourceOf(file, target);
  const flags = settingsOf(options);
  const name = options.name ?? file.name ?? nameOf(source);
  if (!isName(name)) throw new Failure('usage', `${JSON.stringify(name)} is no name of a function.`);
  const env = file.settings.env === undefined && flags.env === undefined ? {} : envOf(file.settings, flags);
  return {
    path: source,
    code: readCode(source),
    name,
    handler: options.handler ?? file.handler,
    description: options.description ?? file.description,
    public: options.public ?? file.public,
    labels: wanted(file.labels, options.label),
    invocation_defaults: wanted(file.invocation_defaults, membersIn<InvocationDefaults>(options, INVOCATION_DEFAULTS)),
    history: wanted(file.history, membersIn<HistorySetting>(options, HISTORY)),
    message: options.message,
    settings: { ...file.settings, ...flags, ...env },
  };
}

function resolveTarget(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new Failure('not_found', `There is no ${path}.`);
  if (!found.isDirectory()) {
    if (/\.(py|ya?ml)$/.test(path)) return path;
    throw new Failure('usage', `${path} is neither a Python file (.py) nor a ${FAAS_FILE}.`);
  }
  const inside = join(path, FAAS_FILE);
  if (statSync(inside, { throwIfNoEntry: false }) !== undefined) return inside;
  throw new Failure('not_found', `There is no ${inside}.`, undefined, 'Name a Python file: faas deploy hello.py');
}

async function readFaasFile(path: string): Promise<FaasFile> {
  // Only here: its parser is a third of what this program loads.
  const { parseFaasFile } = await import('./faas-file.js');
  return parseFaasFile(readFileSync(path, 'utf8'), path);
}

function sourceOf({ file }: FaasFile, target: string): string {
  if (file === undefined) throw new Failure('usage', `${target}: "file" is missing, such as "file: hello.py".`);
  const path = isAbsolute(file) ? file : join(dirname(target), file);
  return relative('.', path) || '.';
}

/** Byte for byte: a byte order mark stays. */
function readCode(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new Failure('not_found', `${path} can't be read: ${(error as Error).message}`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Failure('usage', `${path} is not UTF-8.`, undefined, 'Files in other encodings are uploaded as a form.');
  }
}

/** A flag adds to the variables of faas.yaml. */
function envOf(file: Settings, flags: Settings): { env: Record<string, string> } {
  return { env: { ...file.env, ...flags.env } };
}

function membersIn<Values extends object>(
  options: DeployOptions,
  settings: readonly Setting[],
): Partial<Values> | undefined {
  const flags = settingsOf<Values>(options, settings);
  return Object.keys(flags).length > 0 ? flags : undefined;
}

function wanted<Values extends object>(
  ofFile: Values | undefined,
  ofFlags: NoInfer<Values> | undefined,
): Wanted<Values> | undefined {
  if (ofFile !== undefined) return { values: { ...ofFile, ...ofFlags }, alone: true };
  return ofFlags === undefined ? undefined : { values: ofFlags, alone: false };
}

/** The file's own name as a DNS label. */
export function nameOf(path: string): string {
  const name = basename(path, extname(path))
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replaceAll(/^-+|-+$/g, '');
  if (name !== '') return name;
  throw new Failure('usage', `No name can be made of ${path}.`, undefined, 'Give one: --name hello');
}
