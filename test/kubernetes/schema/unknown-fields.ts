import { fieldsOf } from './kinds.js';

const LIST = /^Array<(.*)>$/;
const MAP = /^\{ \[key: string\]: (.*); \}$/;

/** Paths of the fields that the schema doesn't have, as the API server writes them: `spec.template.spec.foo`. */
export function unknownFields(value: unknown, typeName: string, path = ''): string[] {
  const item = LIST.exec(typeName)?.[1];
  if (item !== undefined) {
    if (!Array.isArray(value)) return [];
    return value.flatMap((one, index) => unknownFields(one, item, `${path}[${index}]`));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  const entry = MAP.exec(typeName)?.[1];
  if (entry !== undefined) {
    return Object.entries(value).flatMap(([key, one]) => unknownFields(one, entry, join(path, key)));
  }
  const fields = fieldsOf(typeName);
  if (fields === undefined) return [];
  const known = new Map(fields.map(({ baseName, type }) => [baseName, type]));
  return Object.entries(value).flatMap(([key, one]) => {
    const type = known.get(key);
    return type === undefined ? [join(path, key)] : unknownFields(one, type, join(path, key));
  });
}

function join(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}
