import { schemaFaults, type SchemaFault } from '../../schema/validate.js';
import { badRequest, type FieldFault, invalid, Refusal } from '../rest/problems.js';
import type { Resource } from '../rest/resources.js';
import type { KubeObject } from '../store/objects.js';
import { fault } from './names.js';
import { quantity } from './quantity.js';

const QUANTITY_RULE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/**
 * An object as a client sent it, refused where its kind, fields or types are not the resource's.
 *
 * @param part of an object, as appliers send it: what is missing others may have set
 */
export function decode(body: unknown, resource: Resource, part: 'whole' | 'part' = 'whole'): KubeObject {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw badRequest(`the object provided is unrecognized (must be of type ${resource.kind})`);
  }
  const sent = withoutNulls(body) as Partial<KubeObject>;
  const { apiVersion = resource.apiVersion, kind = resource.kind, metadata = { name: '' } } = sent;
  const object: KubeObject = { ...sent, apiVersion, kind, metadata };
  if (kind !== resource.kind || apiVersion !== resource.apiVersion) {
    const version = apiVersion.split('/').at(-1);
    throw badRequest(
      `${kind} in version "${version}" cannot be handled as a ${resource.kind}: converting (${version}.${kind}) to (core.${resource.kind}): unknown conversion`,
    );
  }
  if (hasBadQuantity(object)) throw cannotBeHandled(resource, QUANTITY_RULE);
  const faults = schemaFaults(object).filter(({ type }) => part === 'whole' || type !== 'missing');
  refuseFaults(faults, object, resource);
  return object;
}

function refuseFaults(faults: readonly SchemaFault[], object: KubeObject, resource: Resource): void {
  const unknown = faults.filter(({ type }) => type === 'unknown-field');
  if (unknown.length > 0) {
    const list = unknown.map(({ path }) => `unknown field "${path}"`).join(', ');
    throw cannotBeHandled(resource, `strict decoding error: ${list}`);
  }
  const wrong = faults.find(({ type }) => type === 'wrong-type' || type === 'unknown-kind');
  if (wrong !== undefined) {
    const place = [resource.kind, ...wrong.path.split('.')].join('.');
    throw cannotBeHandled(resource, `json: cannot unmarshal into Go struct field ${place}: ${wrong.message}`);
  }
  const semantic = faults.flatMap(({ type, path, message }): FieldFault[] => {
    // Names come from the address or are generated, and are checked with what they become.
    if (type === 'missing') return path === 'metadata.name' ? [] : [fault(path, 'Required')];
    return type === 'not-supported' ? [fault(path, 'NotSupported', message)] : [];
  });
  if (semantic.length > 0) throw invalid(resource, object.metadata.name, semantic);
}

/** Server-side apply says it otherwise, and as an internal error. */
export function refuseUndeclared(manifest: KubeObject, resource: Resource, namespace: string | undefined): void {
  const unknown = schemaFaults(manifest).find(({ type }) => type === 'unknown-field');
  if (unknown === undefined) return;
  const name = [namespace, manifest.metadata.name].filter((part) => part !== undefined).join('/');
  const typed = `${name}; ${resource.apiVersion}, Kind=${resource.kind}`;
  const message = `failed to create typed patch object (${typed}): .${unknown.path}: field not declared in schema`;
  throw new Refusal(500, undefined, message);
}

function cannotBeHandled({ kind, version }: Resource, why: string): Refusal {
  return badRequest(`${kind} in version "${version}" cannot be handled as a ${kind}: ${why}`);
}

/** To the API server, null is the same as absent. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== null && inner !== undefined);
  return Object.fromEntries(entries.map(([key, inner]) => [key, withoutNulls(inner)]));
}

function hasBadQuantity(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([key, inner]) => {
    const isQuantities = key === 'limits' || key === 'requests' || key === 'hard';
    if (isQuantities && typeof inner === 'object' && inner !== null && !Array.isArray(inner)) {
      return Object.values(inner).some((one) => quantity(one) === undefined);
    }
    return key === 'sizeLimit' ? quantity(inner) === undefined : hasBadQuantity(inner);
  });
}
