import type { KubeObject } from './objects.js';

export type Selector = (object: KubeObject) => boolean;

/** A selector that can't be read, in the API server's words. */
export class BadSelector extends Error {}

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: string[];
  }[];
}

/** `a=b,c!=d,e in (f,g),!h,i` */
export function parseLabelSelector(text: string): Selector {
  const parts = text.split(/,(?![^(]*\))/).map((part) => part.trim());
  const tests = parts.filter((part) => part !== '').map(requirement);
  return ({ metadata }) => tests.every((test) => test(metadata.labels ?? {}));
}

type Requirement = (labels: Readonly<Record<string, string>>) => boolean;

function requirement(text: string): Requirement {
  const equality = /^([^\s=!()]+)\s*(!=|==?)\s*([^\s=!()]*)$/.exec(text);
  if (equality !== null) {
    const [, key = '', operator, value] = equality;
    return (labels) => (labels[key] === value) === (operator !== '!=');
  }
  const set = /^([^\s=!()]+)\s+(in|notin)\s+\(([^()]*)\)$/.exec(text);
  if (set !== null) {
    const [, key = '', operator, list = ''] = set;
    const values = new Set(list.split(',').map((value) => value.trim()));
    if (operator === 'in') return (labels) => key in labels && values.has(labels[key]!);
    return (labels) => !(key in labels) || !values.has(labels[key]!);
  }
  const existence = /^(!?)\s*([^\s=!()]+)$/.exec(text);
  if (existence === null) throw new BadSelector(`unable to parse requirement: ${text}`);
  const [, not, key = ''] = existence;
  return (labels) => key in labels === (not === '');
}

export function matchesLabels(
  selector: LabelSelector | undefined,
  labels: Record<string, string> | undefined,
): boolean {
  if (selector === undefined) return false;
  const has = labels ?? {};
  return (
    Object.entries(selector.matchLabels ?? {}).every(([key, value]) => has[key] === value) &&
    (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      if (operator === 'Exists') return key in has;
      if (operator === 'DoesNotExist') return !(key in has);
      const isIn = key in has && values.includes(has[key]!);
      return operator === 'In' ? isIn : !isIn;
    })
  );
}

const FIELDS: Readonly<Record<string, readonly string[]>> = {
  pods: ['spec.nodeName', 'status.phase', 'status.podIP', 'spec.restartPolicy', 'spec.serviceAccountName'],
  namespaces: ['status.phase'],
  secrets: ['type'],
};

/** `metadata.name=a,status.phase!=Running` */
export function parseFieldSelector(text: string, resource: string): Selector {
  const tests = text
    .split(',')
    .filter((part) => part.trim() !== '')
    .map((part) => {
      const match = /^([^=!]+)(!=|==?)(.*)$/.exec(part.trim());
      if (match === null) throw new BadSelector(`invalid selector: '${text}'; can't understand '${part}'`);
      const [, field = '', operator, value] = match;
      if (!['metadata.name', 'metadata.namespace', ...(FIELDS[resource] ?? [])].includes(field)) {
        throw new BadSelector(`"${field}" is not a known field selector: only "metadata.name", "metadata.namespace"`);
      }
      return (object: KubeObject) => ((at(object, field.split('.')) ?? '') === value) === (operator !== '!=');
    });
  return (object) => tests.every((test) => test(object));
}

function at(value: unknown, path: readonly string[]): unknown {
  return path.reduce((inner, key) => (inner as Record<string, unknown> | undefined)?.[key], value);
}
