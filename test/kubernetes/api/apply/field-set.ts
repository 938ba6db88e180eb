import type { FieldsV1 } from '../store/objects.js';
import { fieldShape, itemElement, itemShape, type Shape } from './shapes.js';

/** `f:spec`, `f:containers`, `k:{"name":"worker"}`, `f:image` */
export type Path = readonly string[];

const SEPARATOR = '\u0000';

/** The fields that a manager owns. Items of lists are members themselves; objects are so when they are empty. */
export class FieldSet {
  private readonly paths = new Map<string, Path>();

  constructor(paths: Iterable<Path> = []) {
    for (const path of paths) this.paths.set(path.join(SEPARATOR), path);
  }

  static parse(fields: FieldsV1): FieldSet {
    const paths: Path[] = [];
    const walk = (inner: FieldsV1, path: Path) => {
      const entries = Object.entries(inner);
      if (entries.length === 0) paths.push(path);
      for (const [element, below] of entries) {
        if (element === '.') paths.push(path);
        else walk(below, [...path, element]);
      }
    };
    walk(fields, []);
    return new FieldSet(paths.filter(({ length }) => length > 0));
  }

  get size(): number {
    return this.paths.size;
  }

  [Symbol.iterator](): Iterator<Path> {
    return this.paths.values();
  }

  has(path: Path): boolean {
    return this.paths.has(path.join(SEPARATOR));
  }

  union(other: FieldSet): FieldSet {
    return new FieldSet([...this, ...other]);
  }

  without(other: FieldSet): FieldSet {
    return new FieldSet([...this].filter((path) => !other.has(path)));
  }

  filter(test: (path: Path) => boolean): FieldSet {
    return new FieldSet([...this].filter(test));
  }

  /** With every object and item around the members. */
  withParents(): FieldSet {
    return new FieldSet([...this].flatMap((path) => path.map((_, index) => path.slice(0, index + 1))));
  }

  equals(other: FieldSet): boolean {
    return this.size === other.size && [...this].every((path) => other.has(path));
  }

  toFields(): FieldsV1 {
    const root: FieldsV1 = {};
    for (const path of [...this].toSorted((a, b) => a.length - b.length)) {
      let inner = root;
      for (const element of path) inner = inner[element] ??= {};
    }
    for (const path of this) {
      const inner = path.reduce((fields, element) => fields[element]!, root);
      if (Object.keys(inner).length > 0) inner['.'] = {};
    }
    return root;
  }
}

/** Every field that a value sets. */
export function fieldsIn(value: unknown, shape: Shape, path: Path = []): Path[] {
  if (isItems(value, shape)) {
    const inner = itemShape(shape);
    return value.flatMap((item) => {
      const below = [...path, elementOf(item, shape)];
      return [below, ...(shape.merge === 'set' ? [] : fieldsIn(item, inner, below))];
    });
  }
  if (isFields(value, shape)) {
    const found = Object.entries(value).flatMap(([field, inner]) => {
      const innerShape = fieldShape(shape, field);
      return innerShape === undefined || inner === undefined
        ? []
        : fieldsIn(inner, innerShape, [...path, `f:${field}`]);
    });
    return found.length === 0 && path.length > 0 ? [path] : found;
  }
  return [path];
}

/** What stands at a path; undefined when nothing does. */
export function valueAt(value: unknown, shape: Shape, path: Path): unknown {
  const [element, ...rest] = path;
  if (element === undefined) return value;
  if (element.startsWith('f:')) {
    const field = element.slice(2);
    const inner = fieldShape(shape, field);
    if (inner === undefined || typeof value !== 'object' || value === null) return undefined;
    return valueAt((value as Record<string, unknown>)[field], inner, rest);
  }
  if (!isItems(value, shape)) return undefined;
  return valueAt(
    value.find((item) => elementOf(item, shape) === element),
    itemShape(shape),
    rest,
  );
}

/** Takes away what stands at a path, and nothing else. */
export function removeAt(value: unknown, shape: Shape, path: Path): unknown {
  const [element, ...rest] = path;
  if (element === undefined || typeof value !== 'object' || value === null) return value;
  if (element.startsWith('f:')) {
    const field = element.slice(2);
    const { [field]: inner, ...others } = value as Record<string, unknown>;
    const innerShape = fieldShape(shape, field);
    if (inner === undefined || innerShape === undefined || rest.length === 0) return others;
    return { ...others, [field]: removeAt(inner, innerShape, rest) };
  }
  if (!isItems(value, shape)) return value;
  return value.flatMap((item) => {
    if (elementOf(item, shape) !== element) return [item];
    return rest.length === 0 ? [] : [removeAt(item, itemShape(shape), rest)];
  });
}

export function elementOf(item: unknown, shape: Shape): string {
  return shape.merge === 'set' ? `v:${JSON.stringify(item)}` : itemElement(item, shape.merge as readonly string[]);
}

/** Whether a value is a list that is merged item by item. */
export function isItems(value: unknown, shape: Shape): value is unknown[] {
  return Array.isArray(value) && shape.merge !== 'atomic' && shape.merge !== 'granular';
}

/** Whether a value is an object that is merged field by field. */
export function isFields(value: unknown, shape: Shape): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && shape.merge === 'granular';
}

/** As messages write it: `.spec.containers[name="worker"].image`. */
export function pathText(path: Path): string {
  return path
    .map((element) => {
      if (element.startsWith('f:')) return `.${element.slice(2)}`;
      if (element.startsWith('v:')) return `[=${element.slice(2)}]`;
      const keys = Object.entries(JSON.parse(element.slice(2)) as Record<string, unknown>);
      return `[${keys.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}]`;
    })
    .join('');
}
