import type { Access } from '../access/access.js';
import { applied } from '../apply/ownership.js';
import { mergePatch } from '../apply/merge.js';
import type { Cluster, DeleteOptions } from '../cluster.js';
import { decode, refuseUndeclared } from '../rules/decode.js';
import type { KubeObject, StoredObject } from '../store/objects.js';
import { evict } from './eviction.js';
import { listPage, selectorOf, versionOf } from './list.js';
import { badRequest, invalid, NOT_ALLOWED, notFound, Refusal, success } from './problems.js';
import { DEPLOYMENTS, NAMESPACES, PODS, REPLICA_SETS, SERVICES } from './resources.js';
import {
  type ApiRequest,
  deleteOptions,
  inNamespace,
  isDryRun,
  managerOf,
  named,
  parseJson,
  parseYaml,
} from './request.js';
import type { Route } from './route.js';
import { scaled, scaleOf } from './scale.js';
import type { Watches } from './watching.js';

export interface Answer {
  readonly code: number;
  readonly body: unknown;
}

/** An hour at most, as the API server's default. */
const WATCH_MS = 3_600_000;

/** The verbs on objects. Each authorises itself, then does all of its work without waiting for anything. */
export class ObjectsApi {
  private readonly cluster: Cluster;
  private readonly access: Access;
  private readonly watches: Watches;

  constructor(cluster: Cluster, access: Access, watches: Watches) {
    this.cluster = cluster;
    this.access = access;
    this.watches = watches;
  }

  /** Undefined where the answer goes on by itself. */
  async serve(request: ApiRequest): Promise<Answer | undefined> {
    const { route, query, message } = request;
    const isWatch = ['true', '1'].includes(query.get('watch') ?? '');
    switch (message.method ?? '') {
      case 'GET':
        if (route.name !== undefined) return this.read(request);
        return isWatch ? this.watch(request) : this.list(request);
      case 'POST':
        return this.create(request, await request.body());
      case 'PUT':
        return this.replace(request, await request.body());
      case 'PATCH':
        return this.patch(request, await request.body());
      case 'DELETE':
        return this.remove(request, await request.body());
      default:
        throw NOT_ALLOWED;
    }
  }

  private authorize({ route, user }: ApiRequest, verb: string): void {
    this.access.authorize(user, { ...route, verb });
  }

  private read(request: ApiRequest): Answer {
    this.authorize(request, 'get');
    const object = this.current(request.route);
    return { code: 200, body: request.route.subresource === 'scale' ? scaleOf(object) : object };
  }

  private list(request: ApiRequest): Answer {
    this.authorize(request, 'list');
    const { resource, namespace } = request.route;
    return { code: 200, body: listPage(this.cluster.store, resource, namespace, request.query) };
  }

  private watch(request: ApiRequest): undefined {
    this.authorize(request, 'watch');
    const { query, route, response } = request;
    const seconds = Number(query.get('timeoutSeconds') ?? 0);
    this.watches.start(
      {
        resource: route.resource,
        namespace: route.namespace,
        selector: selectorOf(query, route.resource),
        since: versionOf(query),
        timeoutMs: seconds > 0 ? seconds * 1000 : WATCH_MS,
        bookmarks: ['true', '1'].includes(query.get('allowWatchBookmarks') ?? ''),
      },
      response,
    );
    return undefined;
  }

  private create(request: ApiRequest, text: string): Answer {
    this.authorize(request, 'create');
    const { resource, namespace, name, subresource } = request.route;
    if (subresource === 'eviction') return this.evict(request.route, parseJson(text));
    if (name !== undefined) throw NOT_ALLOWED;
    const object = inNamespace(decode(parseJson(text), resource), namespace);
    delete object.metadata.managedFields;
    if (isDryRun(request.query)) return { code: 201, body: object };
    return { code: 201, body: this.cluster.create(resource, object, { manager: managerOf(request) }) };
  }

  private evict({ namespace, name = '' }: Route, body: unknown): Answer {
    const { kind, deleteOptions = {} } = body as { kind?: string; deleteOptions?: DeleteOptions };
    if (kind !== 'Eviction') throw badRequest('the object provided is no Eviction');
    evict(this.cluster, namespace, name, deleteOptions);
    return { code: 201, body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 } };
  }

  private replace(request: ApiRequest, text: string): Answer {
    this.authorize(request, 'update');
    const previous = this.current(request.route);
    const { resource, namespace, subresource, name } = request.route;
    const body = parseJson(text);
    const object =
      subresource === 'scale'
        ? scaled(previous, body)
        : named(inNamespace(decode(body, resource), namespace), name ?? '');
    return { code: 200, body: this.write(request, object, previous) };
  }

  private patch(request: ApiRequest, text: string): Answer {
    this.authorize(request, 'patch');
    const type = (request.message.headers['content-type'] ?? '').split(';')[0];
    if (type === 'application/apply-patch+yaml') return this.apply(request, text);
    if (type !== 'application/merge-patch+json') {
      const supported = 'application/merge-patch+json, application/apply-patch+yaml';
      throw new Refusal(
        415,
        'UnsupportedMediaType',
        `the body of the request was in an unknown format - accepted media types include: ${supported}`,
      );
    }
    const previous = this.current(request.route);
    const { resource, namespace, subresource, name } = request.route;
    if (subresource === 'scale') {
      const scale = mergePatch(scaleOf(previous), parseJson(text));
      return { code: 200, body: this.write(request, scaled(previous, scale), previous) };
    }
    const patched = mergePatch(previous, parseJson(text));
    const object = named(inNamespace(decode(patched, resource), namespace), name ?? '');
    return { code: 200, body: this.write(request, object, previous) };
  }

  private apply(request: ApiRequest, text: string): Answer {
    const { route, query } = request;
    const { resource, namespace, name = '', subresource } = route;
    const manager = query.get('fieldManager') ?? '';
    if (manager === '') {
      const options = { plural: 'patchoptions', kind: 'PatchOptions', group: 'meta.k8s.io' };
      throw invalid(options, '', [{ field: 'fieldManager', type: 'Required', message: 'is required for apply patch' }]);
    }
    const manifest = inNamespace(parseYaml(text) as KubeObject, namespace);
    if (manifest.metadata.managedFields !== undefined) throw badRequest('metadata.managedFields must be nil');
    named(manifest, name);
    if (resource.namespaced) this.mustExist(namespace);
    refuseUndeclared(manifest, resource, namespace);
    const decoded = decode(manifest, resource, 'part');
    const previous = this.cluster.store.get(resource.key, namespace, name);
    const writer = { manager, subresource };
    const force = query.get('force') === 'true';
    if (previous === undefined) {
      // Applying an object that isn't there creates it, which needs that right too.
      this.authorize(request, 'create');
      if (decoded.metadata.uid !== undefined) throw uidMismatch(request, decoded.metadata.uid);
      const { apiVersion, kind } = decoded;
      const object = decode(applied({ apiVersion, kind, metadata: { name } }, decoded, writer, force), resource);
      if (isDryRun(query)) return { code: 201, body: object };
      return { code: 201, body: this.cluster.create(resource, object, writer) };
    }
    const object = decode(applied(previous, decoded, writer, force), resource);
    if (decoded.metadata.resourceVersion === undefined) delete object.metadata.resourceVersion;
    if (isDryRun(query)) return { code: 200, body: object };
    return { code: 200, body: this.cluster.update(resource, object, previous, undefined, subresource) };
  }

  private remove(request: ApiRequest, text: string): Answer {
    const { route, query } = request;
    const options = deleteOptions(text, query);
    if (route.name === undefined) return this.removeAll(request, options);
    this.authorize(request, 'delete');
    const current = this.current(route);
    if (isDryRun(query)) return { code: 200, body: current };
    const { object, gone } = this.cluster.remove(route.resource, current, options);
    const showsObject = !gone || route.resource === PODS || route.resource === SERVICES;
    const { name, uid } = object.metadata;
    return { code: 200, body: showsObject ? object : success(route.resource, name, uid) };
  }

  private removeAll(request: ApiRequest, options: DeleteOptions): Answer {
    this.authorize(request, 'deletecollection');
    const { resource, namespace } = request.route;
    const page = listPage(this.cluster.store, resource, namespace, request.query);
    for (const { metadata } of page.items) {
      const found = this.cluster.store.get(resource.key, metadata.namespace, metadata.name);
      if (found !== undefined) this.cluster.remove(resource, found, options);
    }
    return { code: 200, body: page };
  }

  private write(request: ApiRequest, object: KubeObject, previous: StoredObject): unknown {
    const { resource, subresource } = request.route;
    if (isDryRun(request.query)) return object;
    const writer = { manager: managerOf(request), subresource };
    const stored = this.cluster.update(resource, object, previous, writer, subresource);
    return subresource === 'scale' ? scaleOf(stored) : stored;
  }

  private current({ resource, namespace, name = '', subresource }: Route): StoredObject {
    if (subresource === 'scale' && resource !== DEPLOYMENTS && resource !== REPLICA_SETS)
      throw notFound(resource, name);
    return this.cluster.get(resource, namespace, name);
  }

  private mustExist(namespace: string | undefined): void {
    this.cluster.get(NAMESPACES, undefined, namespace ?? '');
  }
}

function uidMismatch({ route }: ApiRequest, uid: string): Refusal {
  const why = `Precondition failed: UID in precondition: ${uid}, UID in object meta: `;
  const { plural } = route.resource;
  return new Refusal(409, 'Conflict', `Operation cannot be fulfilled on ${plural} "${route.name}": ${why}`);
}
