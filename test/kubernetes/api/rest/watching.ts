import type { ServerResponse } from 'node:http';
import type { StoredObject } from '../store/objects.js';
import type { Selector } from '../store/selectors.js';
import { type Change, Compacted, type Store } from '../store/store.js';
import { Refusal } from './problems.js';
import type { Resource } from './resources.js';

export interface WatchRequest {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly selector: Selector;
  /** Unset or 0: from now on, and what there is first. */
  readonly since: number | undefined;
  readonly timeoutMs: number;
  readonly bookmarks: boolean;
}

/** The watches that are open; each is an answer that doesn't end by itself. */
export class Watches {
  private readonly open = new Set<Watching>();
  private readonly store: Store;
  private readonly bookmarkMs: number;

  constructor(store: Store, bookmarkMs: number) {
    this.store = store;
    this.bookmarkMs = bookmarkMs;
  }

  get size(): number {
    return this.open.size;
  }

  start(request: WatchRequest, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'application/json', 'transfer-encoding': 'chunked' });
    response.flushHeaders();
    const watching = new Watching(request, response);
    try {
      if (request.since === undefined) {
        for (const object of this.store.list(request.resource.key, request.namespace)) watching.show(object);
      } else {
        for (const change of this.store.changesSince(request.since)) watching.pass(change);
      }
    } catch (error) {
      if (!(error instanceof Compacted)) throw error;
      watching.fail(new Refusal(410, 'Expired', error.message));
      return;
    }
    const forget = this.store.onChange((change) => watching.pass(change));
    const bookmarks = setInterval(() => watching.bookmark(this.store.currentVersion), this.bookmarkMs);
    const end = setTimeout(() => {
      watching.bookmark(this.store.currentVersion);
      response.end();
    }, request.timeoutMs);
    this.open.add(watching);
    response.once('close', () => {
      forget();
      clearInterval(bookmarks);
      clearTimeout(end);
      this.open.delete(watching);
    });
  }

  /** Cuts them all, as a lost connection does. */
  drop(): void {
    for (const watching of this.open) watching.cut();
  }

  /** As at the end of their time: clients go on from where they were. */
  end(): void {
    for (const watching of this.open) watching.end();
  }
}

class Watching {
  private readonly request: WatchRequest;
  private readonly response: ServerResponse;

  constructor(request: WatchRequest, response: ServerResponse) {
    this.request = request;
    this.response = response;
  }

  show(object: StoredObject): void {
    if (this.request.selector(object)) this.send('ADDED', object);
  }

  /** An object that a change brings under the selector is added to this watch, one that leaves it is deleted. */
  pass({ type, resource, object, previous }: Change): void {
    const { namespace, selector } = this.request;
    if (resource !== this.request.resource.key) return;
    if (namespace !== undefined && object.metadata.namespace !== namespace) return;
    const was = previous !== undefined && selector(previous);
    const is = type !== 'DELETED' && selector(object);
    if (is) this.send(was ? 'MODIFIED' : 'ADDED', object);
    else if (was) this.send('DELETED', object);
  }

  bookmark(version: number): void {
    if (!this.request.bookmarks) return;
    const { kind, apiVersion } = this.request.resource;
    this.send('BOOKMARK', { kind, apiVersion, metadata: { resourceVersion: String(version) } });
  }

  fail({ status }: Refusal): void {
    this.send('ERROR', status);
    this.response.end();
  }

  cut(): void {
    this.response.socket?.destroy();
  }

  end(): void {
    this.response.end();
  }

  private send(type: string, object: object): void {
    this.response.write(`${JSON.stringify({ type, object })}\n`);
  }
}
