import { schemaCheckOf, typeNameOf } from './kinds.js';
import { unknownFields } from './unknown-fields.js';

/** One thing in an object that the schema doesn't allow. */
export interface SchemaFault {
  readonly type: 'unknown-kind' | 'unknown-field' | 'wrong-type' | 'missing' | 'not-supported';
  /** As the API server writes it: `spec.template.spec.containers[0].image`. */
  readonly path: string;
  readonly message: string;
}

interface CheckError {
  readonly instancePath: string;
  readonly keyword: string;
  readonly message?: string;
  readonly params: { readonly allowedValues?: readonly unknown[]; readonly missingProperty?: string };
}

/**
 * What an API server with strict field validation would refuse in an object, or `[]`: unknown kinds and fields, wrong
 * types, missing fields, values out of an enumeration. The schema is the published OpenAPI document of Kubernetes 1.36.
 */
export function validate(object: unknown): string[] {
  return schemaFaults(object).map(({ path, message }) => (path === '' ? message : `${path}: ${message}`));
}

/** The same with each fault's kind, since an API server answers them differently. */
export function schemaFaults(object: unknown): SchemaFault[] {
  if (typeof object !== 'object' || object === null || Array.isArray(object)) return [wrongType('', 'not an object')];
  const { apiVersion, kind } = object as { apiVersion?: unknown; kind?: unknown };
  if (typeof apiVersion !== 'string') return [wrongType('apiVersion', 'must be a string')];
  if (typeof kind !== 'string') return [wrongType('kind', 'must be a string')];
  const check = schemaCheckOf(apiVersion, kind);
  if (check === undefined) {
    const message = `no kind "${kind}" is registered for version "${apiVersion}"`;
    return [{ type: 'unknown-kind', path: '', message }];
  }
  return [
    ...unknownFields(object, typeNameOf(apiVersion, kind)).map((path): SchemaFault => {
      return { type: 'unknown-field', path, message: 'unknown field' };
    }),
    ...checkFaults(check, object),
  ];
}

function wrongType(path: string, message: string): SchemaFault {
  return { type: 'wrong-type', path, message };
}

function checkFaults(check: (data: object) => void, object: object): SchemaFault[] {
  try {
    check(object);
    return [];
  } catch (error) {
    const { errors } = error as { errors?: readonly CheckError[] };
    if (errors === undefined) throw error;
    return errors.map(faultOf);
  }
}

function faultOf({ instancePath, keyword, message = 'is invalid', params }: CheckError): SchemaFault {
  const path = pathOf(instancePath);
  if (params.missingProperty !== undefined) {
    const missing = path === '' ? params.missingProperty : `${path}.${params.missingProperty}`;
    return { type: 'missing', path: missing, message: 'is missing' };
  }
  const allowed = params.allowedValues === undefined ? '' : ` (${params.allowedValues.join(', ')})`;
  return { type: keyword === 'enum' ? 'not-supported' : 'wrong-type', path, message: message + allowed };
}

/** `/spec/containers/0/name` as `spec.containers[0].name`. */
function pathOf(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : path === '' ? part : `${path}.${part}`), '');
}
