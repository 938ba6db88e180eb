import type { LimitsConfig } from '#libs/config/config.js';
import { LIMITS_CONFIG } from '#libs/config/config.module.js';
import { AppError } from '#libs/errors/app-error.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import type { Endpoint, FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { FunctionShare } from '../memory/memory-budget.js';
import { FunctionNotFound } from '../functions/errors.js';
import { FunctionBus } from '../functions/function-bus.js';
import { FunctionChanges } from '../functions/function-changes.js';
import type { HistorySetting } from '../functions/dto/history-setting.dto.js';
import { errorOf, type FunctionEntity, servingOf } from '../functions/function.entity.js';
import { isFunctionId } from '../functions/function-id.js';
import { FunctionRepository } from '../functions/function.repository.js';
import { Activator } from '../scaling/activator.js';
import type { InvocationPolicy } from '../invocations/invocation-policy.js';
import { Split } from '../traffic/traffic.js';
import { isDeepStrictEqual } from 'node:util';
import { Connections } from './connections.js';
import { FunctionDisabled, FunctionNotRunnable } from './errors.js';
import { ServiceTime } from './service-time.js';
import { type Links, type Replica, SlotPool } from './slot-pool.js';
import { OpenStreams } from './worker-client.js';

/** What this manager keeps in memory of a function that is called here. */
export interface Route {
  readonly id: FunctionId;
  readonly pool: SlotPool;
  readonly serviceTime: ServiceTime;
  /** The memory of its calls. */
  readonly share: FunctionShare;
  readonly streams: OpenStreams;
  timeoutMs: number;
  concurrency: number;
  /** Why calls are refused; undefined while they are not. */
  refusal: AppError | undefined;
  /** Its removal was requested: the row may be gone at any moment. */
  leaving: boolean;
  lastUsed: number;
  isDisabled: boolean;
  /** It may be called over HTTP without a key. */
  isPublic: boolean;
  /** What its calls for later have that say nothing else. */
  invocationDefaults: InvocationPolicy;
  /** What is kept of its calls. */
  history: HistorySetting;
  /** It has no replicas, and gets them when it is called. */
  sleeps: boolean;
  idleTimeoutMs: number;
  /** The number of its replicas never changes while it is awake. */
  isFixed: boolean;
  /** Endpoints that are ready and not yet in the row. */
  published: readonly Endpoint[];
  /** What calls may use in place of the id; null: nothing else. */
  name: string | null;
  /** The function, where these are workers of one of its revisions beside its own. */
  workloadOf: FunctionId | null;
  /** It is there for one call. */
  readonly isRun: boolean;
  /** How its calls are divided among revisions; undefined: these workers have them all. */
  split: Split | undefined;
  /** The revision that has the calls of these workers. */
  revision: number;
}

/** The function whose revision these workers run: what users know, and what is counted. */
export function functionOf({ id, workloadOf }: Pick<Route, 'id' | 'workloadOf'>): FunctionId {
  return workloadOf ?? id;
}

/** Whether calls may name it: not the workers of one revision, nor what was made for one call, which alone may use it. */
export function isCallable({ workloadOf, isRun }: Pick<Route, 'workloadOf' | 'isRun'>): boolean {
  return workloadOf === null && !isRun;
}

/** `again`: it has changed once more meanwhile. */
interface Reloading {
  again: boolean;
  done: Promise<void>;
}

const UNUSED_MS = 10 * 60_000;
const SWEEP_MS = 60_000;
const RELOAD_RETRY_MS = 500;
const CONFIRM_MS = 5_000;

/** Finds the slots of a function. A row is read at the function's first call and again whenever it has changed. */
@Injectable()
export class Router implements OnApplicationShutdown {
  private readonly routes = new Map<FunctionId, Route>();
  private readonly byName = new Map<string, Route>();
  private readonly loading = new Map<FunctionId, Promise<Route>>();
  /** Functions that have changed while they were loaded. */
  private readonly missed = new Set<FunctionId>();
  private readonly reloading = new Map<FunctionId, Reloading>();
  private readonly links: Links = {
    connectionsTo: (endpoint) => this.connectionsTo(endpoint),
    onDraining: (replica) => void this.abortIfGone(replica),
  };
  private readonly unsubscribe: () => void;
  private readonly sweeper: NodeJS.Timeout;

  constructor(
    private readonly repository: FunctionRepository,
    private readonly orchestrator: Orchestrator,
    private readonly tokens: WorkerTokens,
    changes: FunctionChanges,
    private readonly bus: FunctionBus,
    private readonly activator: Activator,
    @Inject(LIMITS_CONFIG) private readonly limits: LimitsConfig,
    @InjectPinoLogger(Router.name) private readonly logger: PinoLogger,
  ) {
    const change = (id: FunctionId | undefined) => {
      const changed = id === undefined ? [...this.routes.keys(), ...this.loading.keys()] : [id];
      for (const known of changed) if (this.loading.has(known)) this.missed.add(known);
      return Promise.all(changed.map((known) => this.changed(known)));
    };
    this.unsubscribe = changes.subscribe(change);
    bus.on('ready', this.serveAhead).on('recorded', this.followRow);
    this.sweeper = setInterval(() => this.forgetUnused(), SWEEP_MS);
    this.sweeper.unref();
  }

  /** The route of a function, by its id or name, at once where it is known. */
  route(reference: string): Route | Promise<Route> {
    const serving = this.knownRoute(reference);
    if (serving !== undefined) {
      serving.lastUsed = Date.now();
      return serving;
    }
    return isFunctionId(reference) ? this.byId(reference) : this.named(reference);
  }

  private async named(name: string): Promise<Route> {
    const row = await this.repository.findBy(name);
    if (row === null) throw new FunctionNotFound(name);
    return this.route(row.id);
  }

  private byId(id: FunctionId): Promise<Route> {
    const known = this.routes.get(id);
    let loading = this.loading.get(id);
    if (!loading) {
      loading = (known ? this.whetherGone(known) : this.load(id)).finally(() => {
        this.loading.delete(id);
        // It may have changed after its row was read, and before this route began to hear of changes.
        if (this.missed.delete(id)) void this.changed(id);
      });
      this.loading.set(id, loading);
    }
    return loading;
  }

  /** Undefined too for a function whose removal was requested. */
  knownRoute(reference: string): Route | undefined {
    const known = this.routes.get(reference) ?? this.byName.get(reference);
    return known?.leaving ? undefined : known;
  }

  /** How many calls of a function its workers run at once here, those of all its revisions that have traffic. */
  slotsOf(route: Route): number {
    const { split } = route;
    if (split === undefined) return route.pool.slots;
    const slots = split.targets.map(({ workload }) => this.knownRoute(workload)?.pool.slots ?? route.concurrency);
    return slots.reduce((sum, count) => sum + count, 0);
  }

  /** Resolves when the route is as its row says. */
  refresh(id: FunctionId): Promise<void> {
    return this.changed(id);
  }

  has(id: FunctionId): boolean {
    return this.routes.has(id);
  }

  /** Every function that has been called here lately. */
  known(): Iterable<Route> {
    return this.routes.values();
  }

  onApplicationShutdown(): void {
    this.unsubscribe();
    this.bus.off('ready', this.serveAhead).off('recorded', this.followRow);
    clearInterval(this.sweeper);
    for (const { id, pool } of this.routes.values())
      pool.close(new FunctionNotRunnable(id, 'stopped', 'shutting down'));
    this.routes.clear();
    this.byName.clear();
  }

  private async load(id: FunctionId): Promise<Route> {
    const row = await this.repository.find(id);
    if (!row) throw new FunctionNotFound(id);
    const route: Route = {
      id,
      pool: new SlotPool(row.concurrency, this.limits.queuePerFunction, this.links),
      serviceTime: new ServiceTime(),
      share: new FunctionShare(),
      streams: new OpenStreams(),
      timeoutMs: row.timeoutMs,
      concurrency: row.concurrency,
      refusal: undefined,
      leaving: false,
      isDisabled: false,
      isPublic: false,
      invocationDefaults: {},
      history: {},
      lastUsed: Date.now(),
      sleeps: false,
      idleTimeoutMs: 0,
      isFixed: true,
      published: [],
      name: null,
      workloadOf: row.workloadOf,
      isRun: row.isRun,
      split: undefined,
      revision: servingOf(row),
    };
    this.apply(route, row);
    this.routes.set(id, route);
    return route;
  }

  /** A call may arrive after its function was removed, and before the notification that says so. */
  private async whetherGone(route: Route): Promise<Route> {
    // Without the database the known route serves.
    const row = await this.repository.find(route.id).catch(() => undefined);
    if (row === null) this.drop(route, new FunctionNotFound(route.id));
    return route;
  }

  private connectionsTo(endpoint: Endpoint): Connections {
    const { address, guard, credential } = endpoint;
    const token = this.tokens.tokenFor(credential);
    if (guard !== undefined) return new Connections(address, { guard, token });
    return new Connections(address, { token, confirm: (signal) => this.orchestrator.confirms(endpoint, signal) });
  }

  /**
   * Ends the calls of a replica that is gone. Usually its sockets close; but where the engine takes the network down
   * before the processes, nothing closes them, and callers would wait until their time limit.
   */
  private async abortIfGone({ endpoint, connections }: Replica): Promise<void> {
    const there = await this.orchestrator.confirms(endpoint, AbortSignal.timeout(CONFIRM_MS)).catch(() => true);
    if (!there) connections.abortCalls();
  }

  /** Reads a known function's row again, and once more when it changes meanwhile. Resolves when the route follows it. */
  private changed(id: FunctionId): Promise<void> {
    if (!this.routes.has(id)) return Promise.resolve();
    const underWay = this.reloading.get(id);
    if (underWay) {
      underWay.again = true;
      return underWay.done;
    }
    const reloading: Reloading = { again: false, done: Promise.resolve() };
    this.reloading.set(id, reloading);
    reloading.done = this.reload(id, reloading);
    return reloading.done;
  }

  private async reload(id: FunctionId, reloading: Reloading): Promise<void> {
    do {
      try {
        // What is told of one change in several ways, in the same turn, is read once.
        await new Promise((resolve) => setImmediate(resolve));
        reloading.again = false;
        const row = await this.repository.find(id);
        const route = this.routes.get(id);
        if (route && row) this.apply(route, row);
        else if (route) this.drop(route, new FunctionNotFound(id));
      } catch (error) {
        // Known routes go on serving while the database is away.
        this.logger.warn({ functionId: id, reason: (error as Error).message }, 'could not refresh a route');
        await new Promise((resolve) => setTimeout(resolve, RELOAD_RETRY_MS).unref());
        reloading.again = true;
      }
    } while (reloading.again && this.routes.has(id));
    this.reloading.delete(id);
  }

  private apply(route: Route, row: FunctionEntity): void {
    // While a revision is on its way, calls are those of the one before.
    const isRollout = row.servingRevision !== null;
    route.timeoutMs = isRollout ? (row.formerTimeoutMs ?? row.timeoutMs) : row.timeoutMs;
    route.concurrency = isRollout ? Math.min(route.concurrency, row.concurrency) : row.concurrency;
    route.refusal = refusalOf(row);
    route.leaving = row.deletedAt !== null;
    this.rename(route, route.leaving ? null : row.name);
    route.revision = servingOf(row);
    route.isDisabled = !row.enabled;
    route.isPublic = row.public && row.workloadOf === null;
    route.invocationDefaults = row.invocation_defaults;
    route.history = row.history;
    if (row.traffic === null) route.split = undefined;
    else if (route.split === undefined || !isDeepStrictEqual(route.split.targets, row.traffic.targets)) {
      route.split = new Split(row.id, row.traffic.targets);
    }
    route.sleeps = row.replicas === 0;
    route.idleTimeoutMs = row.idleTimeoutMs;
    route.isFixed = row.maxReplicas !== null && row.maxReplicas <= Math.max(1, row.minReplicas);
    // A worker that drains ends as soon as it has no connection left.
    this.serve(route, route.leaving ? [] : endpointsOf(route, row), route.concurrency);
    if (route.isDisabled) this.rejectFurther(route, new FunctionDisabled(row.id));
    if (route.refusal) route.pool.rejectWaiters(route.refusal);
    // Calls that wait asked before it fell asleep, and don't ask again.
    else if (route.sleeps && route.pool.waiting > 0) this.activator.wake(route);
  }

  /** The calls that its further revisions have wait with those. */
  private rejectFurther({ split }: Route, error: AppError): void {
    for (const { workload } of split?.targets ?? []) this.routes.get(workload)?.pool.rejectWaiters(error);
  }

  /** Another function may have got its former name meanwhile. */
  private rename(route: Route, name: string | null): void {
    if (route.name !== null && this.byName.get(route.name) === route) this.byName.delete(route.name);
    route.name = name;
    if (name !== null) this.byName.set(name, route);
  }

  private serve(route: Route, endpoints: readonly Endpoint[], concurrency: number): void {
    const reached = endpoints.map((endpoint) => ({ ...endpoint, address: this.orchestrator.reach(endpoint) }));
    route.pool.update(reached, concurrency);
  }

  /** Calls that wait get a replica that is ready before its row says so. */
  private readonly serveAhead = (id: FunctionId, endpoints: readonly Endpoint[]): void => {
    const route = this.routes.get(id);
    if (route === undefined || route.leaving || route.refusal !== undefined) return;
    const isTakenBack = endpoints.length === 0 && route.published.length > 0;
    if (!isTakenBack && (endpoints.length === 0 || !route.pool.isEmpty)) return;
    route.published = endpoints;
    // Calls that already run on a replica which is taken back stay there.
    this.serve(route, endpoints, route.concurrency);
    if (isTakenBack) void this.changed(id);
  };

  /** The row counts from now on, whatever became of the step. */
  private readonly followRow = (id: FunctionId): void => {
    const route = this.routes.get(id);
    if (route === undefined || route.published.length === 0) return;
    route.published = [];
    void this.changed(id);
  };

  private drop(route: Route, error: AppError): void {
    this.routes.delete(route.id);
    this.rename(route, null);
    route.refusal = error;
    route.pool.rejectWaiters(error);
    route.pool.update([], 1);
  }

  private forgetUnused(): void {
    const oldest = Date.now() - UNUSED_MS;
    for (const route of this.routes.values()) {
      if (route.lastUsed > oldest || route.pool.inFlight > 0 || route.pool.waiting > 0) continue;
      this.routes.delete(route.id);
      this.rename(route, null);
      route.pool.update([], 1);
    }
  }
}

/** A row that was read before its replicas were written to it must not take them away. */
function endpointsOf(route: Route, { endpoints }: FunctionEntity): readonly Endpoint[] {
  return endpoints.length === 0 ? route.published : endpoints;
}

function refusalOf(row: FunctionEntity): AppError | undefined {
  const id = row.workloadOf ?? row.id;
  if (row.deletedAt !== null) return new FunctionNotRunnable(id, 'deleting', 'it is being removed');
  // While another revision tries to take over, calls wait for what comes of it.
  if (row.servingRevision === null && (row.phase === 'error' || row.phase === 'stopped')) {
    return new FunctionNotRunnable(id, row.phase, errorOf(row)?.message);
  }
  if (!row.enabled) return new FunctionDisabled(id);
  return undefined;
}
