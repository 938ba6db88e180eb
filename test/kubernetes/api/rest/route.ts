import { findResource, NAMESPACES, type Resource } from './resources.js';

/** A request for objects, taken apart as the API server does. */
export interface Route {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  /** What follows `proxy/`. */
  readonly rest: string;
}

const PATH =
  /^\/(?:api|apis\/(?<group>[^/]+))\/(?<version>v[^/]+)(?:\/namespaces\/(?<namespace>[^/]+)(?=\/))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+)(?:\/(?<subresource>[^/]+)(?<rest>\/.*)?)?)?\/?$/;

export function routeOf(path: string): Route | undefined {
  const match = PATH.exec(path)?.groups;
  if (match === undefined) return undefined;
  const { group = '', version = '', namespace, plural = '', name, subresource, rest = '' } = match;
  // `/api/v1/namespaces/a/status` is about the namespace itself.
  if (namespace !== undefined && NAMESPACES.subresources.includes(plural) && name === undefined) {
    return { resource: NAMESPACES, namespace: undefined, name: namespace, subresource: plural, rest: '' };
  }
  const resource = findResource(group, version, plural);
  if (resource === undefined || (!resource.namespaced && namespace !== undefined)) return undefined;
  if (subresource !== undefined && !resource.subresources.includes(subresource)) return undefined;
  const decoded = name === undefined ? undefined : decodeURIComponent(name);
  return { resource, namespace, name: decoded, subresource, rest };
}
