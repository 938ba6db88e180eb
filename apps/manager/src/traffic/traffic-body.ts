import { isDnsLabel } from '#libs/names/dns-label.js';
import { InvalidUpdate } from '../functions/errors.js';
import { isJsonObject } from '#libs/json/json-scan.js';
import type { Target } from './traffic.js';
import type { Wish } from './traffic.repository.js';

const MOST_TARGETS = 10;
const MOST_REVISION = 999_999_999;
const KNOWN = ['mode', 'targets'];
const KNOWN_OF_TARGET = ['revision', 'percent', 'tag'];

/** Reads which traffic is asked for. Throws {@link InvalidUpdate} with the member at fault. */
export function wishIn(body: Readonly<Record<string, unknown>>): Wish {
  refuseUnknown(body, KNOWN, '');
  const { mode, targets } = body;
  if (mode === 'auto' && targets === undefined) return 'auto';
  if (mode === 'auto') throw new InvalidUpdate('targets', 'Targets are for {"mode": "targets"}; auto has none.');
  if (mode !== undefined && mode !== 'targets') throw new InvalidUpdate('mode', 'mode must be auto or targets.');
  if (!Array.isArray(targets) || targets.length === 0 || targets.length > MOST_TARGETS) {
    throw new InvalidUpdate('targets', `targets must be a list of 1 to ${MOST_TARGETS} targets.`);
  }
  const read = targets.map(targetIn);
  refuseTwice(read, 'revision');
  refuseTwice(read, 'tag');
  const sum = read.reduce((total, { percent }) => total + percent, 0);
  if (sum !== 100) throw new InvalidUpdate('targets', `The percents of all targets must be 100 together, not ${sum}.`);
  return read;
}

function targetIn(value: unknown, index: number): Target {
  const at = `targets[${index}]`;
  if (!isJsonObject(value))
    throw new InvalidUpdate(at, `${at} must be an object such as {"revision": 3, "percent": 90}.`);
  refuseUnknown(value, KNOWN_OF_TARGET, `${at}.`);
  const { revision, percent, tag } = value;
  if (!isWhole(revision, 1, MOST_REVISION)) {
    throw new InvalidUpdate(`${at}.revision`, `${at}.revision must be the number of a revision.`);
  }
  if (!isWhole(percent, 0, 100)) {
    throw new InvalidUpdate(`${at}.percent`, `${at}.percent must be a whole number from 0 to 100.`);
  }
  if (tag === undefined || tag === null) return { revision, percent };
  if (!isDnsLabel(tag)) {
    const rule = 'up to 63 of a-z, 0-9 and "-", and neither begin nor end with "-"';
    throw new InvalidUpdate(`${at}.tag`, `${at}.tag must be ${rule}.`);
  }
  return { revision, percent, tag };
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

function refuseUnknown(value: Readonly<Record<string, unknown>>, known: readonly string[], prefix: string): void {
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  const shown = unknown.slice(0, 64);
  throw new InvalidUpdate(
    `${prefix}${shown}`,
    `There is no member ${JSON.stringify(shown)}. Known: ${known.join(', ')}.`,
  );
}

function refuseTwice(targets: readonly Target[], name: 'revision' | 'tag'): void {
  const seen = new Set<unknown>();
  for (const { [name]: value } of targets) {
    if (value !== undefined && seen.has(value)) {
      throw new InvalidUpdate('targets', `Two targets have the ${name} ${JSON.stringify(value)}.`);
    }
    seen.add(value);
  }
}
