import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { HttpMethod, type KubernetesObject, PatchStrategy, RequestContext } from '@kubernetes/client-node';
import { type Dispatcher, errors, request } from 'undici';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { ENGINE, isMissing, refusalOf } from './api-fault.js';
import type { ClusterAccess } from './cluster-access.js';
import { type Kind, pathOf } from './kinds.js';

const CALL_TIMEOUT_MS = 20_000;
/** A busy API server says when to retry. A request is retried this often, within its own time limit. */
const MOST_THROTTLED_TRIES = 5;
const LONGEST_RETRY_AFTER_MS = 10_000;
const TOO_MANY_REQUESTS = 429;

export const FIELD_MANAGER = 'service-faas';
/** Owns fields that are set once and then left to others: a Deployment's replicas. */
const NUDGE_MANAGER = 'service-faas-scale';

const METADATA_LIST = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';

interface Call {
  readonly method?: HttpMethod;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
}

export interface ObjectList<T> {
  readonly metadata?: { readonly resourceVersion?: string };
  readonly items: T[];
}

/**
 * The API server's calls we need, in one namespace, each bounded in time. Objects come as JSON has them: times are
 * strings. Throws `OrchestratorUnavailable`, `ApiRefusal`, or the caller's own abort reason.
 */
export class KubeApi {
  constructor(
    private readonly access: ClusterAccess,
    readonly namespace: string,
  ) {}

  /** Resolves when the API server grants access to this namespace. */
  async ping(signal: AbortSignal): Promise<void> {
    await this.json(`/apis/apps/v1/namespaces/${this.namespace}/deployments`, { query: { limit: '1' } }, signal);
  }

  async list<T extends KubernetesObject>(kind: Kind, selector: string, signal: AbortSignal): Promise<ObjectList<T>> {
    return this.listAs(kind, selector, 'application/json', signal);
  }

  /** Objects' metadata only: code stays where it is. */
  async listMetadata(kind: Kind, selector: string, signal: AbortSignal): Promise<ObjectList<KubernetesObject>> {
    return this.listAs(kind, selector, METADATA_LIST, signal);
  }

  async find(kind: Kind, name: string, signal: AbortSignal): Promise<KubernetesObject | undefined> {
    try {
      return await this.json<KubernetesObject>(pathOf(kind, this.namespace, name), {}, signal);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Server-side apply: sets the manifest's fields and leaves those of other managers alone. */
  async apply<T extends KubernetesObject>(kind: Kind, manifest: T, signal: AbortSignal): Promise<T> {
    const query = { fieldManager: FIELD_MANAGER, force: 'true', fieldValidation: 'Strict' };
    const call = { method: HttpMethod.PATCH, query, body: manifest, contentType: PatchStrategy.ServerSideApply };
    return this.json(pathOf(kind, this.namespace, manifest.metadata?.name), call, signal);
  }

  /** Sets fields without owning them. With a `resourceVersion` in it, only if nobody has changed the object since. */
  async merge(kind: Kind, name: string, patch: unknown, signal: AbortSignal): Promise<KubernetesObject> {
    const query = { fieldManager: NUDGE_MANAGER };
    const call = { method: HttpMethod.PATCH, query, body: patch, contentType: PatchStrategy.MergePatch };
    return this.json(pathOf(kind, this.namespace, name), call, signal);
  }

  /** Already gone is success. */
  async delete(kind: Kind, name: string, options: object, signal: AbortSignal): Promise<void> {
    try {
      const call = { method: HttpMethod.DELETE, body: options, contentType: 'application/json' };
      await this.json(pathOf(kind, this.namespace, name), call, signal);
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }

  async log(pod: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<string> {
    const response = await this.send(`/api/v1/namespaces/${this.namespace}/pods/${pod}/log`, { query }, signal);
    return this.bounded(signal, () => response.body.text());
  }

  /** A log as it comes; not bounded in time once it has begun. */
  async logStream(pod: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Readable> {
    const path = `/api/v1/namespaces/${this.namespace}/pods/${pod}/log`;
    const begun = new AbortController();
    const late = setTimeout(() => begun.abort(new DOMException('no answer', 'TimeoutError')), CALL_TIMEOUT_MS);
    try {
      return (await this.send(path, { query }, signal, AbortSignal.any([signal, begun.signal]))).body;
    } finally {
      clearTimeout(late);
    }
  }

  private async listAs<T>(kind: Kind, selector: string, accept: string, signal: AbortSignal): Promise<ObjectList<T>> {
    const call = { query: { labelSelector: selector }, accept };
    const list = await this.json<Partial<ObjectList<T>>>(pathOf(kind, this.namespace), call, signal);
    // An empty list of metadata has `null` for its items.
    return { ...list, items: list.items ?? [] };
  }

  private async json<T>(path: string, call: Call, signal: AbortSignal): Promise<T> {
    const response = await this.send(path, call, signal);
    return (await this.bounded(signal, () => response.body.json())) as T;
  }

  private async send(
    path: string,
    call: Call,
    signal: AbortSignal,
    lifetime = AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]),
  ): Promise<Dispatcher.ResponseData> {
    for (let tries = 1; ; tries += 1) {
      const response = await this.bounded(signal, () => this.once(path, call, lifetime));
      if (response.statusCode < 300) return response;
      const body = await this.bounded(signal, () => response.body.text());
      const retryAfterMs = Number(response.headers['retry-after'] ?? 1) * 1000;
      if (response.statusCode !== TOO_MANY_REQUESTS || tries === MOST_THROTTLED_TRIES) {
        throw refusalOf(response.statusCode, body);
      }
      await this.bounded(signal, () =>
        delay(Math.min(retryAfterMs || 1000, LONGEST_RETRY_AFTER_MS), undefined, { signal: lifetime }),
      );
    }
  }

  private async once(path: string, call: Call, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const method = call.method ?? HttpMethod.GET;
    const url = new URL(this.access.server.replace(/\/$/, '') + path);
    for (const [name, value] of Object.entries(call.query ?? {})) url.searchParams.set(name, value);
    const context = new RequestContext(url.href, method);
    await this.authenticate(context);
    const dispatcher = context.getDispatcher();
    return request(url, {
      method: method as Dispatcher.HttpMethod,
      headers: {
        ...context.getHeaders(),
        accept: call.accept ?? 'application/json',
        ...(call.contentType !== undefined && { 'content-type': call.contentType }),
      },
      ...(call.body !== undefined && { body: requestBody(call.body) }),
      ...(dispatcher !== undefined && { dispatcher }),
      signal,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /** A kubeconfig may name a program or files that give the credentials. */
  private async authenticate(context: RequestContext): Promise<void> {
    try {
      await this.access.applySecurityAuthentication(context);
    } catch (error) {
      const reason = `the kubeconfig's credentials can't be had: ${(error as Error).message}`;
      throw new OrchestratorUnavailable(ENGINE, reason, error);
    }
  }

  private async bounded<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw faultOf(error);
    }
  }
}

function faultOf(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof OrchestratorUnavailable) return error;
  if (error.name === 'TimeoutError' || error.name === 'AbortError') {
    return new OrchestratorUnavailable(ENGINE, `the API server gave no answer in ${CALL_TIMEOUT_MS} ms`, error);
  }
  if (error instanceof errors.UndiciError || typeof (error as NodeJS.ErrnoException).code === 'string') {
    const reason = error.message || (error as NodeJS.ErrnoException).code || 'the connection broke';
    return new OrchestratorUnavailable(ENGINE, reason, error);
  }
  return error;
}

/**
 * The API server reads an applied object as YAML. JSON is YAML, except for what YAML takes for the end of a line, and
 * folds, or refuses as a control character: those are written as escapes, so that code arrives byte for byte.
 */
const NOT_AS_JSON_HAS_IT = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

export function requestBody(value: unknown): string {
  return JSON.stringify(value).replace(
    NOT_AS_JSON_HAS_IT,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
