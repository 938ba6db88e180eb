import { isDeepStrictEqual } from 'node:util';
import { typeNameOf } from '../../schema/kinds.js';
import { Refusal } from '../rest/problems.js';
import { type KubeObject, type ManagedFields, timestamp } from '../store/objects.js';
import { FieldSet, fieldsIn, type Path, pathText, removeAt, valueAt } from './field-set.js';
import { mergeApplied } from './merge.js';
import { rootShape, type Shape } from './shapes.js';

/** Who writes, and how. */
export interface Writer {
  readonly manager: string;
  readonly subresource?: string | undefined;
}

/** Fields that nobody owns. */
const UNOWNED = new Set(
  ['name', 'namespace', 'uid', 'resourceVersion', 'generation', 'creationTimestamp', 'managedFields'].map(
    (field) => `f:metadata\u0000f:${field}`,
  ),
);

const REPLICAS = ['f:spec', 'f:replicas'];

function isOwnable(path: Path): boolean {
  const [first, second] = path;
  if (first === 'f:apiVersion' || first === 'f:kind' || path.length === 0) return false;
  if (first === 'f:metadata' && second === undefined) return false;
  return (
    !UNOWNED.has(`${first}\u0000${second}`) && !(second?.startsWith('f:deletion') === true && first === 'f:metadata')
  );
}

function ownedFields(object: KubeObject, shape: Shape, subresource: string | undefined): FieldSet {
  const status = subresource === 'status';
  return new FieldSet(fieldsIn(object, shape).filter((path) => isOwnable(path) && (path[0] === 'f:status') === status));
}

/**
 * Server-side apply: what the applier's manifest sets is set and owned by it; what its former manifest set, and nobody
 * else owns, goes; what others own and it would change is a conflict, or theirs no more with `force`.
 */
export function applied(live: KubeObject, manifest: KubeObject, writer: Writer, force: boolean): KubeObject {
  const shape = rootShape(typeNameOf(manifest.apiVersion, manifest.kind));
  const wanted = ownedFields(manifest, shape, writer.subresource);
  const entries = live.metadata.managedFields ?? [];
  const own = entries.find((entry) => isOf(entry, 'Apply', writer));
  const others = entries
    .filter((entry) => entry !== own)
    .map((entry) => ({ entry, set: FieldSet.parse(entry.fieldsV1) }));
  let merged = mergeApplied(live, manifest, shape);
  const conflicting = (path: Path) =>
    wanted.has(path) && !isDeepStrictEqual(valueAt(live, shape, path), valueAt(merged, shape, path));
  const isConflict = (path: Path) => conflicting(path) && !isStillMember(live, merged, shape, path);
  const conflicts = others.flatMap(({ entry, set }) => [...set].filter(isConflict).map((path) => ({ entry, path })));
  if (conflicts.length > 0 && !force) throw applyConflict(conflicts);
  const taken = new FieldSet(conflicts.map(({ path }) => path));
  const kept = others.map(({ entry, set }) => ({ entry, set: set.without(taken) }));
  const theirs = kept.reduce((all, { set }) => all.union(set.withParents()), new FieldSet());
  const former = own === undefined ? new FieldSet() : FieldSet.parse(own.fieldsV1);
  for (const path of former.withParents().without(wanted.withParents()).without(theirs)) {
    if (path.length > 1) merged = removeAt(merged, shape, path);
  }
  const result = merged as KubeObject;
  const mine = entryFor(own, 'Apply', manifest.apiVersion, writer, wanted);
  const managedFields = [
    ...(mine === undefined ? [] : [mine]),
    ...kept.flatMap(({ entry, set }) => trimmed(entry, set)),
  ];
  return { ...result, metadata: { ...result.metadata, managedFields } };
}

/** Items and objects are no conflict by what changes inside them; that is what their fields are for. */
function isStillMember(live: unknown, merged: unknown, shape: Shape, path: Path): boolean {
  if (!path.at(-1)?.startsWith('k:')) return false;
  return valueAt(live, shape, path) !== undefined && valueAt(merged, shape, path) !== undefined;
}

/** Any other write: what it changes is its writer's, and nobody else's any more. */
export function updated(previous: KubeObject | undefined, next: KubeObject, writer: Writer): KubeObject {
  const shape = rootShape(typeNameOf(next.apiVersion, next.kind));
  const fields = ownedFields(next, shape, writer.subresource);
  const former =
    previous === undefined ? new FieldSet() : ownedFields(previous, shape, writer.subresource).without(fields);
  const changed = fields.filter((path) => {
    if (previous === undefined) return true;
    const before = valueAt(previous, shape, path);
    return (
      before === undefined || (!path.at(-1)?.startsWith('k:') && !isDeepStrictEqual(before, valueAt(next, shape, path)))
    );
  });
  const entries = previous?.metadata.managedFields ?? [];
  // A scale is followed only where somebody owned the replicas before.
  const isFollowed =
    writer.subresource !== 'scale' || entries.some((entry) => FieldSet.parse(entry.fieldsV1).has(REPLICAS));
  if (!isFollowed) return next;
  const own = entries.find((entry) => isOf(entry, 'Update', writer));
  const others = entries
    .filter((entry) => entry !== own)
    .flatMap((entry) => trimmed(entry, FieldSet.parse(entry.fieldsV1).without(changed).without(former)));
  const before = own === undefined ? new FieldSet() : FieldSet.parse(own.fieldsV1);
  const mine = entryFor(own, 'Update', next.apiVersion, writer, before.union(changed).without(former));
  const managedFields = [...others, ...(mine === undefined ? [] : [mine])];
  const { managedFields: _, ...metadata } = next.metadata;
  return { ...next, metadata: { ...metadata, ...(managedFields.length === 0 ? {} : { managedFields }) } };
}

function isOf(entry: ManagedFields, operation: ManagedFields['operation'], writer: Writer): boolean {
  return entry.manager === writer.manager && entry.operation === operation && entry.subresource === writer.subresource;
}

/** Keeps its time when nothing changes. */
function entryFor(
  former: ManagedFields | undefined,
  operation: ManagedFields['operation'],
  apiVersion: string,
  writer: Writer,
  set: FieldSet,
): ManagedFields | undefined {
  if (set.size === 0) return undefined;
  if (former !== undefined && FieldSet.parse(former.fieldsV1).equals(set)) return former;
  return {
    manager: writer.manager,
    operation,
    apiVersion,
    time: timestamp(),
    fieldsType: 'FieldsV1',
    fieldsV1: set.toFields(),
    ...(writer.subresource === undefined ? {} : { subresource: writer.subresource }),
  };
}

function trimmed(entry: ManagedFields, set: FieldSet): ManagedFields[] {
  return set.size === 0 ? [] : [{ ...entry, fieldsV1: set.toFields() }];
}

function applyConflict(conflicts: readonly { readonly entry: ManagedFields; readonly path: Path }[]): Refusal {
  const by = (entry: ManagedFields) =>
    `"${entry.manager}"` +
    (entry.subresource === undefined ? '' : ` with subresource "${entry.subresource}"`) +
    (entry.operation === 'Update' ? ` using ${entry.apiVersion}` : '');
  const owners = Map.groupBy(conflicts, ({ entry }) => by(entry));
  const count = `${conflicts.length} conflict${conflicts.length === 1 ? '' : 's'}`;
  const texts = [...owners].map(([owner, list]) =>
    list.length === 1 && conflicts.length === 1
      ? `conflict with ${owner}: ${pathText(list[0]!.path)}`
      : `conflicts with ${owner}:\n${list.map(({ path }) => `- ${pathText(path)}`).join('\n')}`,
  );
  const causes = conflicts.map(({ entry, path }) => ({
    reason: 'FieldManagerConflict',
    message: `conflict with ${by(entry)}`,
    field: pathText(path),
  }));
  return new Refusal(409, 'Conflict', `Apply failed with ${count}: ${texts.join('\n')}`, { causes });
}
