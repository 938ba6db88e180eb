import { schemaCheckOf, typeNameOf } from './kinds.js';
import { unknownFields } from './unknown-fields.js';

interface SchemaFault {
  readonly instancePath: string;
  readonly message?: string;
  readonly params: { readonly allowedValues?: readonly unknown[] };
}

/**
 * What an API server with strict field validation would refuse in an object, or `[]`: unknown kinds and fields, wrong
 * types, missing fields, values out of an enumeration. The schema is the published OpenAPI document of Kubernetes 1.36.
 */
export function validate(object: unknown): string[] {
  if (typeof object !== 'object' || object === null || Array.isArray(object)) return ['not an object'];
  const { apiVersion, kind } = object as { apiVersion?: unknown; kind?: unknown };
  if (typeof apiVersion !== 'string') return ['apiVersion: must be a string'];
  if (typeof kind !== 'string') return ['kind: must be a string'];
  const check = schemaCheckOf(apiVersion, kind);
  if (check === undefined) return [`no kind "${kind}" is registered for version "${apiVersion}"`];
  return [
    ...unknownFields(object, typeNameOf(apiVersion, kind)).map((path) => `unknown field "${path}"`),
    ...schemaFaults(check, object),
  ];
}

function schemaFaults(check: (data: object) => void, object: object): string[] {
  try {
    check(object);
    return [];
  } catch (error) {
    const { errors } = error as { errors?: readonly SchemaFault[] };
    if (errors === undefined) throw error;
    return errors.map(({ instancePath, message, params }) => {
      const allowed = params.allowedValues === undefined ? '' : ` (${params.allowedValues.join(', ')})`;
      return `${pathOf(instancePath)}: ${message ?? 'is invalid'}${allowed}`;
    });
  }
}

/** `/spec/containers/0/name` as `spec.containers[0].name`. */
function pathOf(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : path === '' ? part : `${path}.${part}`), '');
}
