import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig, type RequestContext } from '@kubernetes/client-node';
import type { Dispatcher } from 'undici';
import { EngineNotConfigured } from '#libs/orchestrator/errors.js';

/** How long one pool of connections is used: client certificates and authorities are read again for the next. */
const POOL_LIFE_MS = 5 * 60_000;
/** A caller that was given the former pool has begun to use it within this time. */
const POOL_LINGER_MS = 60_000;

/**
 * Over HTTP/2 the API server ends a whole connection with GOAWAY, to answer wrong credentials or to let go of clients
 * before it restarts, and every request on it, watches and calls among them, would break.
 */
const overHttp1: Dispatcher.DispatcherComposeInterceptor = (dispatch) => (options, handler) =>
  dispatch({ ...options, allowH2: false } as Dispatcher.DispatchOptions, handler);

/** No cluster can be found, or the file that names one is wrong. Its message says what to do. */
export class NoCluster extends EngineNotConfigured {}

/** A `KubeConfig` that keeps its connections: the library's own opens a new one, with its handshake, for every request. */
export class ClusterAccess extends KubeConfig {
  private pool: { readonly dispatcher: Dispatcher; readonly until: number } | undefined;
  private readonly former = new Set<Dispatcher>();

  override async applySecurityAuthentication(context: RequestContext): Promise<void> {
    await super.applySecurityAuthentication(context);
    const now = Date.now();
    if (this.pool === undefined || now >= this.pool.until) {
      const fresh = context.getDispatcher();
      if (this.pool !== undefined) this.retire(this.pool.dispatcher);
      this.pool = fresh && { dispatcher: fresh.compose(overHttp1), until: now + POOL_LIFE_MS };
    }
    if (this.pool !== undefined) context.setDispatcher(this.pool.dispatcher);
  }

  get server(): string {
    return this.getCurrentCluster()?.server ?? '';
  }

  /** Ends every connection. */
  close(): void {
    for (const dispatcher of this.former) void dispatcher.destroy();
    void this.pool?.dispatcher.destroy();
    this.pool = undefined;
  }

  /** Running requests finish, a watch after many minutes: cut off, it would have to list everything again. */
  private retire(dispatcher: Dispatcher): void {
    this.former.add(dispatcher);
    const forget = () => this.former.delete(dispatcher);
    setTimeout(() => void dispatcher.close().then(forget, forget), POOL_LINGER_MS).unref();
  }
}

/**
 * The cluster this process is a pod of, else the one of `kubeconfig` (paths parted by `:` as `KUBECONFIG` has them),
 * else that of `~/.kube/config`. Throws {@link NoCluster}.
 */
export function accessCluster(kubeconfig: string | undefined, insideCluster: boolean): ClusterAccess {
  const access = new ClusterAccess();
  if (insideCluster && kubeconfig === undefined) {
    access.loadFromCluster();
    return access;
  }
  const home = join(homedir(), '.kube', 'config');
  const path = kubeconfig ?? (existsSync(home) ? home : undefined);
  if (path === undefined) {
    throw new NoCluster(
      'DEPLOYMENT_ENV=kubernetes needs a cluster: this process is no pod of one, KUBECONFIG is not set and ~/.kube/config is not there.',
    );
  }
  try {
    load(access, path);
  } catch (error) {
    throw new NoCluster(`The kubeconfig ${path} can't be read: ${(error as Error).message}`, { cause: error });
  }
  if (access.getCurrentCluster() === null || access.getCurrentUser() === null) {
    const context = access.getCurrentContext();
    throw new NoCluster(
      `The kubeconfig ${path} has no usable current context${context ? ` ("${context}" lacks its cluster or user)` : ''}: choose one with kubectl config use-context.`,
    );
  }
  return access;
}

function load(access: ClusterAccess, paths: string): void {
  for (const [index, path] of paths.split(':').filter(Boolean).entries()) {
    if (index === 0) access.loadFromFile(path);
    else {
      const next = new KubeConfig();
      next.loadFromFile(path);
      // The library refuses a name that is there twice; everybody else takes the first.
      next.clusters = next.clusters.filter(({ name }) => access.getCluster(name) === null);
      next.users = next.users.filter(({ name }) => access.getUser(name) === null);
      next.contexts = next.contexts.filter(({ name }) => access.getContextObject(name) === null);
      next.currentContext = access.currentContext || next.currentContext;
      access.mergeConfig(next);
    }
  }
}
