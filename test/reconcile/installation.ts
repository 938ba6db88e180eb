import { createHash } from 'node:crypto';
import type { ReconcileConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import { dataSourceOptions, openDataSource } from '#libs/database/data-source.js';
import { Database } from '#libs/database/database.js';
import { Notifications } from '#libs/database/notifications.js';
import { Metrics } from '#libs/observability/metrics.js';
import { MemoryOrchestrator } from '#libs/orchestrator/testing/memory.orchestrator.js';
import { MemoryWorld } from '#libs/orchestrator/testing/memory.world.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { PinoLogger } from 'nestjs-pino';
import { pino } from 'pino';
import type { DataSource } from 'typeorm';
import { expect } from 'vitest';
import { DemandRepository } from '../../apps/manager/src/scaling/demand.repository.js';
import { FunctionBus } from '../../apps/manager/src/functions/function-bus.js';
import { InlineReconciler, StepSlots } from '../../apps/manager/src/functions/inline-reconciler.js';
import { FunctionChanges } from '../../apps/manager/src/functions/function-changes.js';
import { FunctionEntity } from '../../apps/manager/src/functions/function.entity.js';
import { newFunctionId } from '../../apps/manager/src/functions/function-id.js';
import {
  FunctionRepository,
  type Lease,
  type NewFunction,
} from '../../apps/manager/src/functions/function.repository.js';
import { InstallationPolicy } from '../../apps/manager/src/revisions/installation-policy.js';
import { RevisionRepository } from '../../apps/manager/src/revisions/revision.repository.js';
import { TrafficRepository } from '../../apps/manager/src/traffic/traffic.repository.js';
import { FunctionLock } from '../../apps/manager/src/functions/function-lock.js';
import { RevisionEntity } from '../../apps/manager/src/revisions/revision.entity.js';
import { FunctionReconciler } from '../../apps/manager/src/reconciler/function.reconciler.js';
import { OrphanCollector } from '../../apps/manager/src/reconciler/orphan.collector.js';
import { ReconcileMetrics } from '../../apps/manager/src/reconciler/reconcile-metrics.js';
import type { SecretsService } from '../../apps/manager/src/secrets/secrets.service.js';
import { ReconcileLoop } from '../../apps/manager/src/reconciler/reconcile.loop.js';
import { Life, MortalDatabase, MortalOrchestrator } from './life.js';

export const silent = pino({ level: 'silent' });
const logger = new PinoLogger({ pinoHttp: { level: 'silent' } });

export const DEFAULTS: ReconcileConfig = {
  pollMs: 100,
  leaseMs: 1_000,
  resyncMs: 60_000,
  concurrency: 4,
  stepTimeoutMs: 60_000,
  orphanSweepMs: 60_000,
};

const OWNER = 'this-installation';

/** Any manager of an installation without its HTTP side: a loop and an orphan collector of its own. */
export class RunningManager {
  readonly life = new Life();
  readonly bus = new FunctionBus();
  readonly repository: FunctionRepository;
  readonly changes: FunctionChanges;
  readonly inline: InlineReconciler;
  readonly demands: DemandRepository;
  readonly orchestrator: MortalOrchestrator;
  readonly slots: StepSlots;
  readonly notifications: Notifications;
  readonly revisions: RevisionRepository;
  readonly traffic: TrafficRepository;
  readonly policy: InstallationPolicy;
  readonly loop: ReconcileLoop;
  private readonly orphans: OrphanCollector;

  constructor(installation: Installation, config: ReconcileConfig) {
    this.repository = new FunctionRepository(new MortalDatabase(installation.source, this.life));
    this.orchestrator = new MortalOrchestrator(installation.world, OWNER, this.life);
    this.notifications = new Notifications(installation.url, silent);
    this.changes = new FunctionChanges(this.notifications);
    const { bus } = this;
    this.slots = new StepSlots(config);
    this.inline = new InlineReconciler(this.repository, this.slots, bus, config);
    this.demands = new DemandRepository(new MortalDatabase(installation.source, this.life));
    const database = new MortalDatabase(installation.source, this.life);
    const lock = new FunctionLock(database);
    this.revisions = new RevisionRepository(database, lock);
    const metrics = new ReconcileMetrics(new Metrics());
    const { functions, scale, invocations } = loadConfig({});
    this.policy = new InstallationPolicy(functions, scale, this.orchestrator, invocations);
    this.traffic = new TrafficRepository(database, lock, this.revisions, this.policy);
    const reconciler = new FunctionReconciler(
      this.repository,
      this.orchestrator,
      this.changes,
      bus,
      metrics,
      this.revisions,
      this.traffic,
      this.policy,
      { of: async () => undefined } as unknown as SecretsService,
      { layer: (digest) => ({ digest, open: withoutLayers, describe: withoutLayers }) },
      logger,
    );
    this.loop = new ReconcileLoop(
      this.repository,
      reconciler,
      this.orchestrator,
      config,
      this.notifications,
      this.changes,
      this.slots,
      bus,
      logger,
    );
    this.orphans = new OrphanCollector(this.repository, this.orchestrator, config, logger);
  }

  start({ deaf = false } = {}): this {
    if (!deaf) this.notifications.start();
    this.loop.onApplicationBootstrap();
    this.orphans.onApplicationBootstrap();
    return this;
  }

  /** As an upload here does. */
  async add(wanted: NewFunction = newFunction()): Promise<FunctionId> {
    const { functionName, code, codeSha256 } = wanted;
    const revision = { number: 1, functionName, code, codeSha256, layer: null };
    await this.inline.write(wanted.id, async (lease) => ({
      row: await this.repository.insert(wanted, lease),
      revision,
      isFresh: true,
    }));
    return wanted.id;
  }

  /** As a call here does that finds its function without replicas; false when somebody else was faster. */
  async wake(id: FunctionId): Promise<boolean> {
    return (await this.inline.write(id, (lease) => this.demands.wake(id, lease))) !== undefined;
  }

  /** As a revision that is sent here does; resolves with its number. */
  async revise(id: FunctionId, code: Buffer): Promise<number> {
    const sha256 = createHash('sha256').update(code).digest('hex');
    const made = { functionName: undefined, code: { bytes: code, sha256 }, message: '', createdBy: null };
    const paces = { rolloutMs: 60_000, kept: 20 };
    const write = (lease: Lease | undefined) =>
      this.revisions.add(id, made, (settings) => this.policy.resolve(settings), { ...paces, lease });
    return (await this.inline.write(id, write)).number;
  }

  /** As going back here does. */
  async rollBack(id: FunctionId, to: number): Promise<void> {
    const write = (lease: Lease | undefined) =>
      this.revisions.rollBack(id, to, this.policy.asMade, { rolloutMs: 60_000, lease });
    await this.inline.write(id, write);
  }

  /** As the start of a shutdown does, which may take long. */
  withdraw(): void {
    this.loop.withdraw();
  }

  /** As SIGTERM does. */
  async stop(): Promise<void> {
    await Promise.all([this.loop.stop(), this.orphans.stop()]);
    await this.notifications.close();
  }

  /** As `kill -9` does: whatever it was about to do to the database or the engine stays undone. */
  async crash(): Promise<void> {
    this.life.end();
    const stopped = this.stop();
    this.life.bury();
    await stopped;
  }
}

/** One database and one engine in memory, which any number of managers share. */
export class Installation {
  readonly database: Database;
  readonly repository: FunctionRepository;
  world = new MemoryWorld();
  private readonly managers = new Set<RunningManager>();

  private constructor(
    readonly url: string,
    readonly source: DataSource,
  ) {
    this.database = new Database(source);
    this.repository = new FunctionRepository(this.database);
  }

  static async open(url: string): Promise<Installation> {
    const options = { url, poolSize: 20, entities: [FunctionEntity, RevisionEntity], logger: silent };
    return new Installation(url, await openDataSource(dataSourceOptions(options), silent));
  }

  /** An orchestrator of another manager, or of another installation on the same engine. */
  engine(owner = OWNER): MemoryOrchestrator {
    return new MemoryOrchestrator(this.world, owner);
  }

  start(config: Partial<ReconcileConfig> = {}, options: { deaf?: boolean } = {}): RunningManager {
    const manager = new RunningManager(this, { ...DEFAULTS, ...config }).start(options);
    this.managers.add(manager);
    return manager;
  }

  async add(overrides: Partial<NewFunction> = {}): Promise<FunctionId> {
    return (await this.repository.insert(newFunction(overrides))).id;
  }

  async row(id: FunctionId): Promise<FunctionEntity> {
    const row = await this.repository.find(id);
    if (row === null) throw new Error(`Function ${id} is gone.`);
    return row;
  }

  replicasOf(id: FunctionId): string[] {
    return this.world
      .replicas()
      .filter(({ functionId, owner }) => functionId === id && owner === OWNER)
      .map((replica) => replica.id);
  }

  /** Waits until a function is ready with exactly the replicas it wants. */
  async ready(id: FunctionId, timeout = 10_000): Promise<FunctionEntity> {
    await expect
      .poll(
        async () => {
          const row = await this.repository.find(id);
          const replicas = this.replicasOf(id);
          const endpoints = row?.endpoints.map(({ replica }) => replica) ?? [];
          return { phase: row?.phase, satisfied: endpoints.length === row?.replicas, same: same(endpoints, replicas) };
        },
        { timeout, interval: 10 },
      )
      .toEqual({ phase: 'running', satisfied: true, same: true });
    return this.row(id);
  }

  /** Waits until nothing is left of a function, neither in the database nor on the engine. */
  async gone(id: FunctionId, timeout = 10_000): Promise<void> {
    await expect
      .poll(async () => [await this.repository.find(id), this.replicasOf(id)], { timeout, interval: 10 })
      .toEqual([null, []]);
  }

  /** Makes every row due at once, as if time had passed. */
  async letTimePass(): Promise<void> {
    await this.database.query(`UPDATE functions SET reconcile_at = now(), not_before = NULL`);
  }

  /** Ends all managers and forgets every function. */
  async reset(): Promise<void> {
    for (const manager of this.managers) await manager.crash();
    this.managers.clear();
    await this.database.query('TRUNCATE functions CASCADE');
    for (const replica of this.world.replicas()) replica.end(undefined);
    this.world = new MemoryWorld();
  }

  async close(): Promise<void> {
    await this.reset();
    await this.source.destroy();
  }
}

export function newFunction(overrides: Partial<NewFunction> = {}): NewFunction {
  const code = Buffer.from('def handle(payload):\n    return payload\n');
  return {
    id: newFunctionId(),
    functionName: 'handle',
    name: null,
    description: '',
    labels: {},
    enabled: true,
    said: [],
    minReplicas: 0,
    maxReplicas: null,
    idleTimeoutMs: 600_000,
    replicas: 1,
    timeoutMs: 1_000,
    concurrency: 4,
    memoryMiB: 64,
    cpuMillis: 100,
    pids: 32,
    env: {},
    secrets: {},
    requirements: null,
    public: false,
    invocation_defaults: {},
    history: {},
    handlerKind: 'auto',
    code,
    codeSha256: createHash('sha256').update(code).digest('hex'),
    createdBy: null,
    provisionalForMs: 60_000,
    ...overrides,
  };
}

function withoutLayers(): Promise<never> {
  return Promise.reject(new Error('no function here has one'));
}

function same(one: readonly string[], other: readonly string[]): boolean {
  return one.toSorted().join() === other.toSorted().join();
}
