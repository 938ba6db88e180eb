import { KubeConfig } from '@kubernetes/client-node';
import { describe, expect, it } from 'vitest';
import { RESOURCES } from '../rest/resources.js';
import { fieldsOf, typeNameOf } from '../../schema/kinds.js';
import { Caller } from '../support/targets.js';
import { ATOMIC_MAPS, ATOMIC_TYPES, LIST_MAP_KEYS, LIST_SETS } from './shapes.js';

interface Property {
  readonly 'x-kubernetes-list-type'?: string;
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
  readonly 'x-kubernetes-map-type'?: string;
}

interface Definition extends Property {
  readonly properties?: Readonly<Record<string, Property>>;
}

/** Every type that objects of the served kinds are made of. */
function reachableTypes(): string[] {
  const found = new Set<string>();
  const visit = (type: string) => {
    const name = /\w+(?=[>;]|$)/.exec(type.replace(/^\{ \[key: string\]: /, ''))?.[0] ?? '';
    if (found.has(name) || fieldsOf(name) === undefined) return;
    found.add(name);
    for (const field of fieldsOf(name) ?? []) visit(field.type);
  };
  for (const { apiVersion, kind } of RESOURCES) visit(typeNameOf(apiVersion, kind));
  return [...found];
}

describe('how lists and objects are merged', () => {
  it('is said of fields that there are', () => {
    for (const place of [...Object.keys(LIST_MAP_KEYS), ...LIST_SETS, ...ATOMIC_MAPS]) {
      const [type = '', field] = place.split('.');
      expect(
        fieldsOf(type)?.map(({ baseName }) => baseName),
        place,
      ).toContain(field);
    }
    for (const type of ATOMIC_TYPES) expect(fieldsOf(type), type).toBeDefined();
  });
});

const missing = process.env['KUBECONFIG'] === undefined ? ' (KUBECONFIG names none)' : '';

describe.skipIf(missing !== '')(`how a cluster says that they are merged${missing}`, () => {
  it('is how they are merged here', async () => {
    const config = new KubeConfig();
    config.loadFromDefault();
    const { body } = await new Caller(config, '').get('/openapi/v2');
    const definitions = Object.entries(body.definitions as Record<string, Definition>);
    const published = new Map<string, Definition>();
    for (const [name, definition] of definitions) {
      const [kind = '', version = '', group = ''] = name.split('.').toReversed();
      published.set(version.toUpperCase() + kind, definition);
      published.set(`${group[0]?.toUpperCase()}${group.slice(1)}${version.toUpperCase()}${kind}`, definition);
    }
    for (const type of reachableTypes()) {
      const definition = published.get(type);
      expect(definition, type).toBeDefined();
      expect(definition?.['x-kubernetes-map-type'] === 'atomic', type).toBe(ATOMIC_TYPES.has(type));
      for (const [field, property] of Object.entries(definition?.properties ?? {})) {
        const place = `${type}.${field}`;
        const keys = property['x-kubernetes-list-map-keys'];
        expect(keys?.toSorted(), place).toEqual(LIST_MAP_KEYS[place]?.toSorted());
        expect(property['x-kubernetes-list-type'] === 'set', place).toBe(LIST_SETS.has(place));
        expect(property['x-kubernetes-map-type'] === 'atomic', place).toBe(ATOMIC_MAPS.has(place));
      }
    }
  });
});
