import { isDnsLabel } from '#libs/names/dns-label.js';
import { isJsonObject } from '#libs/json/json-scan.js';
import { variableFault } from './environment.js';

/** The name of a secret: it becomes a variable, or a file. */
export type SecretSource = string | { readonly file: string };

/** Which secrets a function gets, by the name of the variable or of the file. */
export type SecretTargets = Readonly<Record<string, SecretSource>>;

export interface SecretTarget {
  /** The variable's or the file's name. */
  readonly target: string;
  /** The secret's. */
  readonly secret: string;
}

/** Of 64 KiB each: all of them together are what one Secret of a cluster can hold. */
export const MOST_SECRETS = 16;

const LONGEST_TARGET = 128;
/** What is a name on every file system, and a key of a cluster's Secret. */
const FILE_NAME = /^(?!\.{1,2}$|\.\.)[A-Za-z0-9._-]{1,128}$/;

export function variablesOf(secrets: SecretTargets): SecretTarget[] {
  return Object.entries(secrets).flatMap(([target, source]) =>
    typeof source === 'string' ? [{ target, secret: source }] : [],
  );
}

export function filesOf(secrets: SecretTargets): SecretTarget[] {
  return Object.entries(secrets).flatMap(([target, source]) =>
    typeof source === 'string' ? [] : [{ target, secret: source.file }],
  );
}

/** The names of the secrets, each once. */
export function secretsIn(secrets: SecretTargets): string[] {
  return [...new Set([...variablesOf(secrets), ...filesOf(secrets)].map(({ secret }) => secret))];
}

/** Why a value can't be the secrets of a function; undefined: it can. */
export function secretsFault(secrets: unknown): string | undefined {
  if (!isJsonObject(secrets)) {
    return 'secrets must be a JSON object, such as {"DB_PASSWORD": "db-password", "tls.pem": {"file": "db-cert"}}.';
  }
  const entries = Object.entries(secrets);
  if (entries.length > MOST_SECRETS) return `secrets has ${entries.length} members, and may have ${MOST_SECRETS}.`;
  for (const [target, source] of entries) {
    const fault = targetFault(target, source);
    if (fault !== undefined) return `secrets: ${fault}`;
  }
  return undefined;
}

function targetFault(target: string, source: unknown): string | undefined {
  const shown = JSON.stringify(target.slice(0, 64));
  const isFile = isJsonObject(source) && Object.keys(source).join() === 'file';
  if (!isFile && typeof source !== 'string') {
    return `${shown} must have the name of a secret for a variable, or {"file": the name of a secret} for a file.`;
  }
  const fault = isFile ? fileFault(target) : secretVariableFault(target);
  if (fault !== undefined) return `the name ${shown} ${fault}.`;
  const name = isFile ? source['file'] : source;
  if (isDnsLabel(name)) return undefined;
  return `${shown} must name a secret: lower-case letters, digits and hyphens, at most 63.`;
}

/** Of a cluster's Secret it is a key, which has bounds of its own. */
function secretVariableFault(name: string): string | undefined {
  return name.length > LONGEST_TARGET ? `is too long: at most ${LONGEST_TARGET}` : variableFault(name);
}

function fileFault(name: string): string | undefined {
  return FILE_NAME.test(name)
    ? undefined
    : 'is no file’s: letters, digits, ".", "_" and "-", at most 128, and not ".." first';
}
