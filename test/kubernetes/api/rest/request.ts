import type { IncomingMessage, ServerResponse } from 'node:http';
import { parse } from 'yaml';
import type { User } from '../access/access.js';
import type { DeleteOptions } from '../cluster.js';
import type { KubeObject } from '../store/objects.js';
import { badRequest } from './problems.js';
import type { Route } from './route.js';

export interface ApiRequest {
  readonly route: Route;
  readonly user: User;
  readonly query: URLSearchParams;
  readonly message: IncomingMessage;
  readonly response: ServerResponse;
  body(): Promise<string>;
}

export function isDryRun(query: URLSearchParams): boolean {
  return query.get('dryRun') === 'All';
}

/** Without a name of its own, a writer goes by its user agent's. */
export function managerOf({ query, message }: ApiRequest): string {
  return query.get('fieldManager') ?? (message.headers['user-agent'] ?? 'unknown').split('/')[0] ?? 'unknown';
}

export function inNamespace(object: KubeObject, namespace: string | undefined): KubeObject {
  object.metadata ??= { name: '' };
  if (namespace === undefined) return object;
  const { namespace: given } = object.metadata;
  if (given !== undefined && given !== namespace) {
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  }
  return { ...object, metadata: { ...object.metadata, namespace } };
}

export function named(object: KubeObject, name: string): KubeObject {
  const given = object.metadata.name;
  if (given !== name) {
    throw badRequest(`the name of the object (${given}) does not match the name on the URL (${name})`);
  }
  return object;
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw badRequest(
      `the object provided is unrecognized: couldn't get version/kind; json parse error: ${String(error)}`,
    );
  }
}

export function parseYaml(text: string): unknown {
  try {
    const manifest = parse(text) as unknown;
    if (typeof manifest === 'object' && manifest !== null) return manifest;
  } catch (error) {
    throw badRequest(`error decoding YAML: ${String(error)}`);
  }
  throw badRequest('error decoding YAML: not an object');
}

export function deleteOptions(text: string, query: URLSearchParams): DeleteOptions {
  const body = (text.trim() === '' ? {} : parseJson(text)) as DeleteOptions;
  const [grace, policy] = [query.get('gracePeriodSeconds'), query.get('propagationPolicy')];
  return {
    ...(grace === null ? {} : { gracePeriodSeconds: Number(grace) }),
    ...(policy === null ? {} : { propagationPolicy: policy }),
    ...body,
  };
}
