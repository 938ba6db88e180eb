import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CONFIG_MAPS, SECRETS } from '../rest/resources.js';
import { type Fields, fields, list, text } from '../rules/fields.js';
import type { StoredObject } from '../store/objects.js';
import type { Store } from '../store/store.js';

/** Why a container can't be made yet: a reason of the kubelet's and its sentence. */
export class NotYet extends Error {
  readonly reason: 'ContainerCreating' | 'CreateContainerConfigError';

  constructor(reason: NotYet['reason'], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Lays out a container's own root: what its volumes hold, at the paths where they are mounted. */
export async function layOutRoot(root: string, pod: StoredObject, container: Fields, store: Store): Promise<void> {
  const volumes = new Map(list(fields(pod.spec)['volumes']).map((volume) => [volume['name'], volume]));
  for (const mount of list(container['volumeMounts'])) {
    const folder = join(root, String(mount['mountPath']));
    await mkdir(folder, { recursive: true });
    const files = filesOf(volumes.get(mount['name']) ?? {}, pod, store);
    for (const [name, content] of files) await writeFile(join(folder, name), content);
  }
}

function filesOf(volume: Fields, pod: StoredObject, store: Store): [string, Buffer][] {
  const source = volume['configMap'] ?? volume['secret'];
  if (source === undefined) return [];
  const isConfig = volume['configMap'] !== undefined;
  const name = String(fields(source)[isConfig ? 'name' : 'secretName']);
  const resource = isConfig ? CONFIG_MAPS : SECRETS;
  const found = store.get(resource.key, pod.metadata.namespace, name);
  if (found === undefined) {
    if (fields(source)['optional'] === true) return [];
    throw new NotYet('ContainerCreating', `${resource.singular} "${name}" not found`);
  }
  const items = list(fields(source)['items']);
  const paths = new Map(items.map(({ key, path }) => [String(key), String(path)]));
  return Object.entries(contentOf(found)).flatMap(([key, content]) =>
    items.length === 0 || paths.has(key) ? [[paths.get(key) ?? key, content] as [string, Buffer]] : [],
  );
}

function contentOf(object: StoredObject): Record<string, Buffer> {
  const isSecret = object.kind === 'Secret';
  const encoded = Object.entries(fields(isSecret ? object['data'] : object['binaryData']));
  const plain = isSecret ? [] : Object.entries(fields(object['data']));
  return Object.fromEntries([
    ...encoded.map(([key, text]) => [key, Buffer.from(String(text), 'base64')] as const),
    ...plain.map(([key, text]) => [key, Buffer.from(String(text))] as const),
  ]);
}

/**
 * A container's environment. A value that is a path inside one of its mounts becomes that path below the container's
 * root, since its process sees this machine's.
 */
export function environmentOf(root: string, pod: StoredObject, podIP: string, container: Fields, store: Store) {
  const mounts = list(container['volumeMounts']).map(({ mountPath }) => String(mountPath));
  const inside = (value: string) => mounts.some((path) => value === path || value.startsWith(`${path}/`));
  return Object.fromEntries(
    list(container['env']).map((variable) => {
      const value = text(variable['value'] ?? referred(variable['valueFrom'], pod, podIP, store));
      return [String(variable['name']), inside(value) ? join(root, value) : value];
    }),
  );
}

function referred(from: unknown, pod: StoredObject, podIP: string, store: Store): string | undefined {
  const { fieldRef, configMapKeyRef, secretKeyRef } = fields(from);
  if (fieldRef !== undefined) return fieldOf(String(fields(fieldRef)['fieldPath']), pod, podIP);
  const reference = configMapKeyRef ?? secretKeyRef;
  if (reference === undefined) return undefined;
  const { name, key, optional } = fields(reference);
  const resource = configMapKeyRef === undefined ? SECRETS : CONFIG_MAPS;
  const object = store.get(resource.key, pod.metadata.namespace, String(name));
  const content = object && contentOf(object)[String(key)];
  if (content !== undefined || optional === true) return content?.toString();
  const what =
    object === undefined ? `${resource.singular} "${String(name)}" not found` : `couldn't find key ${String(key)}`;
  throw new NotYet('CreateContainerConfigError', what);
}

function fieldOf(path: string, pod: StoredObject, podIP: string): string | undefined {
  const { name, namespace, uid, labels = {}, annotations = {} } = pod.metadata;
  const known: Record<string, unknown> = {
    'metadata.name': name,
    'metadata.namespace': namespace,
    'metadata.uid': uid,
    'spec.nodeName': fields(pod.spec)['nodeName'],
    'spec.serviceAccountName': fields(pod.spec)['serviceAccountName'],
    'status.podIP': podIP,
    'status.hostIP': '127.0.0.1',
  };
  const keyed = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (keyed !== null) return (keyed[1] === 'labels' ? labels : annotations)[keyed[2] ?? ''];
  return known[path] as string | undefined;
}
