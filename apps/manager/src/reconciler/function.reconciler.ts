import type { ReconcileConfig } from '#libs/config/config.js';
import { DeadlinePassed, within } from '#libs/deadlines/within.js';
import { DatabaseUnavailable } from '#libs/errors/errors.js';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { type OnReady, Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { Observed, Workload } from '#libs/orchestrator/workload.js';
import { Inject, Injectable } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { setTimeout as delay } from 'node:timers/promises';
import { FunctionBus } from '../functions/function-bus.js';
import { FunctionChanges } from '../functions/function-changes.js';
import type { FunctionEntity, StoredFault } from '../functions/function.entity.js';
import { type Claim, FunctionRepository } from '../functions/function.repository.js';
import { LayersService } from '../layers/layers.service.js';
import { InstallationPolicy } from '../revisions/installation-policy.js';
import { RevisionRepository } from '../revisions/revision.repository.js';
import { SecretUnreadable } from '../secrets/errors.js';
import { SecretsService } from '../secrets/secrets.service.js';
import { backoffMs, decide, isBegunRun, rolloutFault, workloadFault } from './outcome.js';
import { isLive } from '../traffic/traffic.js';
import { TrafficRepository } from '../traffic/traffic.repository.js';
import { ReconcileMetrics } from './reconcile-metrics.js';

/**
 * Time for every manager to hear of a removal before the workers stop listening: else calls on their way would break.
 */
const REMOVAL_NOTICE_MS = 150;
/** Calls in flight may finish for this long when their function is removed. */
const REMOVAL_GRACE_MS = 10_000;
/** What an aborted step may take to leave the engine in order. */
const ABORT_GRACE_MS = 3_000;

type Pace = Pick<ReconcileConfig, 'resyncMs' | 'stepTimeoutMs'>;

/**
 * Makes one step towards what a claimed row wants: act and observe through the port, decide, record. Safe to repeat.
 */
@Injectable()
export class FunctionReconciler {
  constructor(
    private readonly repository: FunctionRepository,
    private readonly orchestrator: Orchestrator,
    private readonly changes: FunctionChanges,
    private readonly bus: FunctionBus,
    private readonly metrics: ReconcileMetrics,
    private readonly revisions: RevisionRepository,
    private readonly traffic: TrafficRepository,
    private readonly policy: InstallationPolicy,
    private readonly secrets: SecretsService,
    @Inject(LayersService) private readonly layers: Pick<LayersService, 'layer'>,
    @InjectPinoLogger(FunctionReconciler.name) private readonly logger: PinoLogger,
  ) {}

  /**
   * Resolves with the milliseconds until the row is due again, or null. Rejects only when the database can't be
   * reached. Ends soon after `stepTimeoutMs` or `signal` even if the engine never does; what the engine does later
   * isn't recorded.
   */
  async step(claim: Claim, pace: Pace, signal: AbortSignal): Promise<number | null> {
    const verb = claim.row.deletedAt === null ? 'ensure' : 'remove';
    const measured = this.metrics.duration.startTimer({ verb });
    this.metrics.lag.observe(claim.lateMs / 1_000);
    try {
      return verb === 'ensure' ? await this.converge(claim, pace, signal) : await this.remove(claim, pace, signal);
    } catch (error) {
      if (error instanceof DatabaseUnavailable) this.metrics.failures.inc({ code: error.code });
      // Nothing can be recorded without the database. The lease runs out and the step is made again.
      if (signal.aborted || error instanceof DatabaseUnavailable) throw error;
      return await this.postpone(claim, this.faultOf(error));
    } finally {
      measured();
    }
  }

  private async converge(claim: Claim, pace: Pace, signal: AbortSignal): Promise<number | null> {
    const { id } = claim.row;
    let isOver = false;
    const publishReady: OnReady = (endpoints) => {
      if (!isOver) this.bus.emit('ready', id, endpoints);
    };
    try {
      return await this.stepTowards(claim, pace, signal, publishReady);
    } finally {
      isOver = true;
      this.bus.emit('recorded', id);
    }
  }

  private async stepTowards(
    claim: Claim,
    { resyncMs, stepTimeoutMs }: Pace,
    signal: AbortSignal,
    publishReady: OnReady,
  ): Promise<number | null> {
    const { row } = claim;
    // Calls of an upload begin once it can't fail any more. A run has one, which waits already.
    const mayServe = row.provisionalUntil === null || row.isRun;
    const observed = await this.ensured(claim, { stepTimeoutMs, signal }, mayServe ? publishReady : undefined);
    const outcome = decide(row, observed, { now: new Date(), resyncMs, random: Math.random() });
    if (outcome.phase !== row.phase) {
      this.logger.info(
        { functionId: row.id, phase: outcome.phase, ready: observed.ready, reason: outcome.reason?.message },
        'function changed phase',
      );
    }
    if (mayServe) publishReady(outcome.endpoints);
    await this.repository.record(claim, outcome);
    const fault = rolloutFault(row, outcome, new Date());
    if (fault !== undefined) await this.giveUp(row, fault);
    await this.followTraffic(row, workloadFault(row, outcome, new Date()));
    this.changes.tell(row.id);
    return outcome.abandon ? 0 : outcome.nextMs;
  }

  private async ensured(
    claim: Claim,
    { stepTimeoutMs, signal }: { readonly stepTimeoutMs: number; readonly signal: AbortSignal },
    onReady: OnReady | undefined,
  ): Promise<Observed> {
    let workload: Workload;
    try {
      workload = await this.workloadOf(claim);
    } catch (error) {
      if (!(error instanceof SecretUnreadable)) throw error;
      if (claim.row.replicas > 0) return lackingSecret(claim.row, error);
      // Who falls asleep needs no values.
      workload = await this.workloadOf({ ...claim, row: { ...claim.row, secrets: {} } });
    }
    return within('a step', { ms: stepTimeoutMs, graceMs: ABORT_GRACE_MS, signal }, (bounded) =>
      this.orchestrator.ensure(workload, bounded, onReady),
    );
  }

  /** The revision that was to take over can't: the one that has the calls is wanted again. */
  private async giveUp({ id, activeRevision }: FunctionEntity, fault: StoredFault): Promise<void> {
    const { terminal: _, at: __, ...error } = fault;
    this.logger.info({ functionId: id, revision: activeRevision, reason: fault.message }, 'revision given up');
    await this.revisions.revert(id, activeRevision, error, this.policy.asMade);
  }

  /** The traffic of the function may wait for this row, or may no longer need it. */
  private async followTraffic(row: FunctionEntity, fault: StoredFault | undefined): Promise<void> {
    const { id, workloadOf, traffic, wantedTraffic, activeRevision } = row;
    if (workloadOf === null && traffic === null && !isLive(wantedTraffic)) return;
    const functionId = workloadOf ?? id;
    if (fault !== undefined) {
      const { terminal: _, at: __, ...error } = fault;
      this.logger.info({ functionId, revision: activeRevision, reason: fault.message }, 'revision given up');
      await this.traffic.fail(functionId, row, error);
    }
    const changed = await this.traffic.settle(functionId);
    if (changed || workloadOf !== null) this.changes.tell(functionId);
  }

  private async remove(claim: Claim, { stepTimeoutMs }: Pace, signal: AbortSignal): Promise<number | null> {
    const { row } = claim;
    // No calls are on their way to one that was never ready, nor to a run, which is called once.
    if (row.provisionalUntil === null) await delay(REMOVAL_NOTICE_MS, undefined, { signal });
    const graceMs = Math.min(row.timeoutMs, REMOVAL_GRACE_MS);
    await within('a removal', { ms: graceMs + stepTimeoutMs, graceMs: ABORT_GRACE_MS, signal }, (bounded) =>
      this.orchestrator.remove(row.id, graceMs, bounded),
    );
    const nextMs = await this.repository.purge(claim);
    if (nextMs === null) this.logger.info({ functionId: row.id }, 'function removed');
    await this.followTraffic(row, undefined);
    return nextMs;
  }

  /** An engine that doesn't answer in time is unavailable. */
  private faultOf(error: unknown): unknown {
    if (!(error instanceof DeadlinePassed)) return error;
    return new OrchestratorUnavailable(this.orchestrator.engine, error.message, error);
  }

  private async postpone(claim: Claim, error: unknown): Promise<number> {
    const { row } = claim;
    const nextMs = backoffMs(row.postponed + 1, Math.random());
    const fault: StoredFault = {
      code: error instanceof OrchestratorUnavailable ? 'orchestrator_unavailable' : 'internal_error',
      message: error instanceof OrchestratorUnavailable ? error.message : 'The manager failed to act; see its log.',
      terminal: false,
      at: new Date().toISOString(),
    };
    this.metrics.failures.inc({ code: fault.code });
    if (error instanceof OrchestratorUnavailable) {
      this.logger.warn({ functionId: row.id, nextMs, reason: error.message }, 'reconcile postponed');
    } else {
      this.logger.error({ functionId: row.id, nextMs, err: error }, 'reconcile failed');
    }
    await this.repository.postpone(claim, fault, nextMs);
    return nextMs;
  }

  private async workloadOf({ row, revision: known, isFresh = false }: Claim): Promise<Workload> {
    const revision = known ?? (await this.repository.revision(row.workloadOf ?? row.id, row.activeRevision));
    if (!revision) throw new Error(`Revision ${row.activeRevision} of function ${row.id} is missing.`);
    const { timeoutMs, concurrency, memoryMiB, cpuMillis, pids } = row;
    const secrets = await this.secrets.of(row.secrets);
    return {
      functionId: row.id,
      revision: revision.number,
      functionName: revision.functionName,
      code: revision.code,
      codeSha256: revision.codeSha256,
      replicas: row.replicas,
      ...(row.maxReplicas === null ? {} : { maxReplicas: row.maxReplicas }),
      limits: { timeoutMs, concurrency, memoryMiB, cpuMillis, pids },
      // A worker of a former version knows nothing of kinds, and its functions name none.
      environment: row.handlerKind === 'auto' ? row.env : { ...row.env, FAAS_HANDLER_KIND: row.handlerKind },
      ...(secrets && { secrets }),
      ...(revision.layer !== null && { layer: this.layers.layer(revision.layer) }),
      ...(row.servingRevision !== null && { formerRevision: row.servingRevision }),
      ...(row.formerTimeoutMs === null ? {} : { formerTimeoutMs: Math.max(row.formerTimeoutMs, timeoutMs) }),
      ...(row.isRun && { isCalledOnce: true }),
      ...(hasServed(row) && { hasServed: true }),
      ...(isFresh && { isFresh }),
      ...(row.notBefore === null ? {} : { replaceEndedFrom: row.notBefore }),
      // Its code may have had its effect.
      ...(isBegunRun(row) && { startsNone: true }),
    };
  }
}

/** Whether workers of the revision that it wants now have been ready. */
function hasServed({ provisionalUntil, rolloutUntil }: FunctionEntity): boolean {
  return provisionalUntil === null && rolloutUntil === null;
}

/** What runs goes on as it was last seen; nothing is started without what it needs. */
function lackingSecret(row: FunctionEntity, { message }: SecretUnreadable): Observed {
  const { endpoints, primaryReplica: primary, hostPort, reason } = row;
  // The same fault as before is counted once.
  const at = reason?.message === message ? new Date(reason.at) : new Date();
  return {
    replicas: 0,
    ready: 0,
    endpoints,
    primary,
    hostPort,
    reason: { code: 'rejected', message, terminal: false, at },
  };
}
