import { isDeepStrictEqual } from 'node:util';
import {
  type KubernetesListObject,
  type KubernetesObject,
  ListWatch,
  type RequestContext,
  Watch,
} from '@kubernetes/client-node';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { ENGINE } from './api-fault.js';
import type { ClusterAccess } from './cluster-access.js';
import { type Kind, pathOf } from './kinds.js';
import { ownedBy } from './labels.js';
import type { KubeApi } from './kube-api.js';
import { functionOf, ObjectsByFunction } from './objects-by-function.js';

const FIRST_RETRY_MS = 250;
const SLOWEST_RETRY_MS = 15_000;
/** So many deleted objects are remembered, so that a late answer doesn't bring one back. */
const MOST_REMEMBERED = 1_000;
const METADATA = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';

export interface InformerOptions {
  /** Content stays on the cluster. */
  readonly metadataOnly?: boolean;
  /** Changes of the object's status are kept, but not told to listeners. */
  readonly statusIsNews?: boolean;
}

export interface InformerEvents {
  changed(functionId: FunctionId): void;
  /** It may be behind from now on. */
  cutOff(kind: Kind, reason: string): void;
  /** It has seen everything again. */
  resumed(kind: Kind): void;
}

/** Everything of one kind that this owner has, kept up to date by one list and one watch. */
export class Informer<T extends KubernetesObject> {
  private readonly objects = new ObjectsByFunction<T>();
  private readonly gone = new Set<string>();
  private readonly closing = new AbortController();
  private readonly firstTry = Promise.withResolvers<void>();
  private readonly selector: string;
  private listWatch: ListWatch<T> | undefined;
  private retryMs = FIRST_RETRY_MS;
  private retry: NodeJS.Timeout | undefined;
  private fault: Error | undefined = new OrchestratorUnavailable(ENGINE, 'the first list is not there yet');

  constructor(
    private readonly access: ClusterAccess,
    private readonly api: KubeApi,
    readonly kind: Kind,
    owner: string,
    private readonly events: InformerEvents,
    private readonly options: InformerOptions = {},
  ) {
    this.selector = ownedBy(owner);
  }

  /** Lists, then watches; begins anew, ever more slowly, after each failure. */
  start(): void {
    const { access, api, kind, selector, options } = this;
    const watch = new SlimWatch(access, options.metadataOnly === true, this.closing.signal);
    const listWatch = new ListWatch<T>(pathOf(kind, api.namespace), watch, () => this.list(), false, selector);
    listWatch.on('add', (object) => this.put(object));
    listWatch.on('update', (object) => this.put(object));
    listWatch.on('delete', (object) => this.drop(object));
    listWatch.on('error', (error: unknown) => this.failed(listWatch, error));
    this.listWatch = listWatch;
    void listWatch.start();
  }

  /** Resolves once it has listed everything for the first time, or has failed to: `behind` tells which. */
  get tried(): Promise<void> {
    return this.firstTry.promise;
  }

  /** Why it may be behind; undefined while it is up to date. */
  get behind(): Error | undefined {
    return this.fault;
  }

  of(functionId: FunctionId): T[] {
    return this.objects.of(functionId);
  }

  get(functionId: FunctionId, name: string): T | undefined {
    return this.objects.get(functionId, name);
  }

  find(name: string): T | undefined {
    return this.objects.find(name);
  }

  /** Of all functions. */
  all(): T[] {
    return this.objects.all();
  }

  /** Takes over an object from an answer of the API server, which mostly is newer than what the watch has shown. */
  learn(object: T): void {
    if (this.gone.has(object.metadata?.uid ?? '')) return;
    const known = this.find(object.metadata?.name ?? '');
    if (known !== undefined && isNewer(known, object)) return;
    this.keep(object);
  }

  /** Drops what it still has of a function that the API server no longer has. */
  forget(functionId: FunctionId): void {
    for (const { metadata } of this.of(functionId)) this.objects.remove(metadata?.name ?? '');
  }

  close(): void {
    clearTimeout(this.retry);
    this.closing.abort();
    void this.listWatch?.stop();
  }

  private async list(): Promise<KubernetesListObject<T>> {
    const { api, kind, selector, closing } = this;
    const found = this.options.metadataOnly
      ? ((await api.listMetadata(kind, selector, closing.signal)) as { items: T[] })
      : await api.list<T>(kind, selector, closing.signal);
    const there = new Set(found.items.map((object) => object.metadata?.name));
    for (const object of this.all()) if (!there.has(object.metadata?.name)) this.drop(object);
    // The library puts the items into its cache, and so into ours, right after this.
    setImmediate(() => this.caughtUp());
    return found;
  }

  private caughtUp(): void {
    if (this.closing.signal.aborted) return;
    this.firstTry.resolve();
    this.retryMs = FIRST_RETRY_MS;
    if (this.fault === undefined) return;
    this.fault = undefined;
    this.events.resumed(this.kind);
  }

  private failed(listWatch: ListWatch<T>, error: unknown): void {
    if (this.closing.signal.aborted || listWatch !== this.listWatch) return;
    this.listWatch = undefined;
    void listWatch.stop();
    this.fault = error instanceof Error ? error : new Error('the watch ended');
    this.firstTry.resolve();
    this.events.cutOff(this.kind, this.fault.message);
    this.retry = setTimeout(() => this.start(), this.retryMs * (0.8 + 0.4 * Math.random()));
    this.retryMs = Math.min(this.retryMs * 2, SLOWEST_RETRY_MS);
  }

  private put(object: T): void {
    const known = this.find(object.metadata?.name ?? '');
    this.keep(object);
    const former = known === undefined ? functionOf(object) : functionOf(known);
    if (former !== functionOf(object)) this.events.changed(former);
    if (this.options.statusIsNews === false && known !== undefined && isSameButForStatus(known, object)) return;
    this.events.changed(functionOf(object));
  }

  private keep(object: T): void {
    slim(object);
    this.objects.put(object);
  }

  private drop(object: T): void {
    this.remember(object);
    this.objects.remove(object.metadata?.name ?? '');
    this.events.changed(functionOf(object));
  }

  private remember({ metadata }: T): void {
    this.gone.add(metadata?.uid ?? '');
    const oldest = this.gone.values().next();
    if (this.gone.size > MOST_REMEMBERED && oldest.done !== true) this.gone.delete(oldest.value);
  }
}

/** Asks for bookmarks, so that a quiet watch can go on from where it was instead of from the beginning. */
class SlimWatch extends Watch {
  constructor(
    access: ClusterAccess,
    metadataOnly: boolean,
    private readonly closing: AbortSignal,
  ) {
    super(metadataOnly ? metadataAccess(access) : access);
  }

  override async watch(
    path: string,
    parameters: Record<string, string | number | boolean | undefined>,
    callback: Parameters<Watch['watch']>[2],
    done: Parameters<Watch['watch']>[3],
  ): ReturnType<Watch['watch']> {
    const events: typeof callback = (phase, object: unknown, event) => {
      // The library fails silently at a line that is no event, which a proxy in between may send.
      if (phase === 'ERROR' || isObject(object)) callback(phase, object ?? {}, event);
    };
    // The library begins a watch that it was told to stop while it paused.
    if (this.closing.aborted) return new AbortController();
    try {
      return await super.watch(path, { ...parameters, allowWatchBookmarks: true }, events, done);
    } catch (error) {
      // Credentials can't be had; the library leaves that rejection unhandled.
      done(error);
      return new AbortController();
    }
  }
}

function metadataAccess(access: ClusterAccess): ClusterAccess {
  const asMetadata = async (context: RequestContext) => {
    await access.applySecurityAuthentication(context);
    context.setHeaderParam('accept', METADATA);
  };
  return new Proxy(access, {
    get: (target, key) => (key === 'applySecurityAuthentication' ? asMetadata : (Reflect.get(target, key) as unknown)),
  });
}

function isObject(object: unknown): object is KubernetesObject {
  const metadata: unknown = (object as { metadata?: unknown } | null | undefined)?.metadata;
  return typeof metadata === 'object' && metadata !== null;
}

/** An autoscaler reports every few seconds what it measured. */
function isSameButForStatus(known: KubernetesObject, object: KubernetesObject): boolean {
  const said = ({ metadata, ...rest }: KubernetesObject & { status?: unknown }) => {
    const { labels, annotations, ownerReferences, deletionTimestamp, uid } = metadata ?? {};
    return { ...rest, status: undefined, metadata: { labels, annotations, ownerReferences, deletionTimestamp, uid } };
  };
  return isDeepStrictEqual(said(known), said(object));
}

/** Drops `managedFields`, which is of no use here and the larger half of most objects. */
function slim(object: KubernetesObject): void {
  delete object.metadata?.managedFields;
}

/** Versions of one kind grow; the API promises that they can be compared as numbers. */
function isNewer(known: KubernetesObject, object: KubernetesObject): boolean {
  return Number(known.metadata?.resourceVersion) > Number(object.metadata?.resourceVersion);
}
