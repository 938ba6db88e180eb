import { type Ask, Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { FunctionLock, type LockedFunction } from '../functions/function-lock.js';
import { ALL_COLUMNS, type FunctionEntity, servingOf } from '../functions/function.entity.js';
import { DELETED } from '../functions/function.repository.js';
import { InstallationPolicy } from '../revisions/installation-policy.js';
import type { RevisionError } from '../revisions/revision.entity.js';
import type { Resolved } from '../revisions/function-spec.js';
import { RevisionRepository } from '../revisions/revision.repository.js';
import {
  isLive,
  loadOf,
  replicasFor,
  type SeenWorkload,
  type ServedTarget,
  settling,
  type Target,
  type Traffic,
  type WantedTarget,
  type WantedTraffic,
  workersIn,
} from './traffic.js';
import { addWorkload, keepWorkload, letRest } from './workloads.js';

/** What users ask for: targets, or all calls for the newest revision that is ready. */
export type Wish = readonly Target[] | 'auto';

interface Asked {
  readonly versions: readonly number[] | undefined;
  readonly withinMs: number;
}

interface Settled {
  readonly traffic: Traffic | null;
  readonly wanted: WantedTraffic | null;
}

/** When the manager that waits for its traffic ends, another one gives up this much later. */
const MARGIN_MS = 5_000;

/** All SQL about the traffic of functions. */
@Injectable()
export class TrafficRepository {
  constructor(
    private readonly database: Database,
    private readonly lock: FunctionLock,
    private readonly revisions: RevisionRepository,
    private readonly policy: InstallationPolicy,
  ) {}

  /**
   * Writes down which traffic is wanted, and makes the workers that it needs; where they are ready already, it is served
   * from then on. What was wanted before is forgotten. Resolves with the function's row, and the version by which what is
   * wanted is known. Throws {@link RevisionNotFound} and what {@link FunctionLock} throws.
   */
  want(
    id: FunctionId,
    wish: Wish,
    { versions, withinMs }: Asked,
  ): Promise<{ readonly row: FunctionEntity; readonly version: number }> {
    return this.lock.changing(id, versions, async (locked) => {
      const { row, ask } = locked;
      if (wish === 'auto' && row.traffic === null && !isLive(row.wantedTraffic)) {
        // It is so already; what was asked for before and failed is no longer of interest.
        await ask('UPDATE functions SET wanted_traffic = NULL WHERE id = $1', [id]);
        return { row: { ...row, wantedTraffic: null }, version: row.version };
      }
      const version = row.version + 1;
      const isAuto = wish === 'auto';
      const targets = isAuto ? [await this.takeBack(locked, withinMs)] : await this.provide(locked, wish, withinMs);
      const until = new Date(Date.now() + withinMs + MARGIN_MS).toISOString();
      const wanted: WantedTraffic = { version, isAuto, targets, until, fault: null };
      const isServed = settling(wanted, [row, ...locked.workloads].map(seen), new Date()) === 'served';
      const next = isServed ? await serve(row.id, wanted, ask) : { traffic: row.traffic, wanted };
      const [written] = await ask<FunctionEntity>(
        `UPDATE functions SET traffic = $2, wanted_traffic = $3, version = $4,
           reconcile_at = CASE WHEN $5 THEN reconcile_at ELSE now() END, wakes = wakes + CASE WHEN $5 THEN 0 ELSE 1 END
         WHERE id = $1 RETURNING ${ALL_COLUMNS}`,
        [id, next.traffic, next.wanted, version, isServed],
      );
      if (isServed) await letRest(locked, neededBy(row, next), ask);
      return { row: written as FunctionEntity, version };
    });
  }

  /**
   * One idempotent step of a function whose calls are divided, or are about to be: serves the wanted traffic when its
   * workers are ready, gives it up when that takes too long, and lets workers go that no traffic needs, or whose
   * function is gone. True: it has changed.
   *
   * @param given what was asked for at this version is given up unless it can be served now
   */
  async settle(id: FunctionId, given?: number): Promise<boolean> {
    const changed = await this.lock.with(id, async (locked) => {
      const { row, workloads, ask } = locked;
      if (row.deletedAt !== null) {
        await removeAll(workloads, ask);
        return false;
      }
      await proven(id, workloads, ask);
      const { traffic, wantedTraffic: wanted } = row;
      const next = isLive(wanted) ? await this.settled(locked, wanted, wanted.version === given) : undefined;
      if (next !== undefined) await write(id, next, ask);
      await letRest(locked, neededBy(row, next ?? { traffic, wanted }), ask);
      return next !== undefined;
    });
    if (changed === undefined) await this.removeOrphans(id);
    return changed === true;
  }

  /** Workers that were made for a revision can't serve: they go, and what needed them is not to be. */
  async fail(id: FunctionId, workload: FunctionEntity, error: RevisionError): Promise<void> {
    await this.lock.with(id, async (locked) => {
      const { row, ask } = locked;
      await ask(
        `UPDATE revisions SET state = 'failed', error = $3
         WHERE function_id = $1 AND number = $2 AND state = 'pending'`,
        [id, workload.activeRevision, error],
      );
      await removeAll([workload], ask);
      const { wantedTraffic: wanted } = row;
      if (!isLive(wanted) || !workersIn(wanted).includes(workload.id)) return;
      await write(id, await this.givenUp(locked, wanted, error), ask);
    });
  }

  /** What the present traffic and the wanted one become; undefined: they stay. */
  private async settled(locked: LockedFunction, wanted: WantedTraffic, isOver: boolean): Promise<Settled | undefined> {
    const { row, workloads, ask } = locked;
    const { isAuto, targets } = wanted;
    const all = [row, ...workloads];
    switch (settling(wanted, all.map(seen), new Date())) {
      case 'waits':
        return isOver ? this.givenUp(locked, wanted, lateFault(wanted, all)) : undefined;
      case 'late':
        return this.givenUp(locked, wanted, lateFault(wanted, all));
      case 'lost':
        return this.givenUp(locked, wanted, (isAuto && (await this.errorOf(row.id, targets, ask))) || LOST);
      case 'served':
        return serve(row.id, wanted, ask);
    }
  }

  /** What is divided stays as it is, so the function's own workers must keep the revision that they have. */
  private async givenUp({ row, ask }: LockedFunction, wanted: WantedTraffic, fault: RevisionError): Promise<Settled> {
    const isTaken = row.servingRevision === null && row.activeRevision === wanted.targets[0]?.revision;
    // Too late to go back: they have answered with it.
    if (wanted.isAuto && isTaken && wanted.targets[0]?.revision !== ownIn(row.traffic, row.id)) {
      return { traffic: null, wanted: null };
    }
    if (wanted.isAuto) await this.keepOwn(row, ask);
    return { traffic: row.traffic, wanted: { ...wanted, fault } };
  }

  private async keepOwn(row: FunctionEntity, ask: Ask): Promise<void> {
    const { servingRevision: former } = row;
    if (former === null) return;
    const resolved = this.policy.asMade(await this.revisions.settingsOf(row, former, ask));
    await this.revisions.activate(row, former, former, resolved, undefined, ask);
  }

  private async errorOf(id: FunctionId, targets: readonly Target[], ask: Ask): Promise<RevisionError | null> {
    const sql = 'SELECT error FROM revisions WHERE function_id = $1 AND number = $2';
    const [revision] = await ask<{ error: RevisionError | null }>(sql, [id, targets[0]?.revision ?? 0]);
    return revision?.error ?? null;
  }

  /** The function's own workers shall have all calls, with the newest revision that was ever ready. */
  private async takeBack(locked: LockedFunction, withinMs: number): Promise<WantedTarget> {
    const { row, ask } = locked;
    // One that is on its way for the same reason still counts.
    const underWay = isLive(row.wantedTraffic) && row.wantedTraffic.isAuto ? row.activeRevision : 0;
    const [newest] = await ask<{ number: number }>(
      `SELECT number FROM revisions WHERE function_id = $1 AND (state = 'ready' OR number = $2)
       ORDER BY number DESC LIMIT 1`,
      [row.id, underWay],
    );
    const revision = newest?.number ?? row.activeRevision;
    const resolved = this.policy.asMade(await this.revisions.settingsOf(row, revision, ask));
    if (revision !== row.activeRevision) {
      const serving = servingOf(row);
      if (revision !== serving) await this.revisions.makePending(row.id, revision, ask);
      await this.revisions.activate(row, revision, serving, resolved, { rolloutMs: withinMs }, ask);
    }
    const replicas = this.replicasOf(100, locked, resolved);
    await keepWorkload(row.id, resolved, { replicas, withinMs }, ask);
    return { revision, percent: 100, workload: row.id, replicas };
  }

  private async provide(locked: LockedFunction, targets: readonly Target[], withinMs: number): Promise<WantedTarget[]> {
    const { row, workloads, ask } = locked;
    // A revision on its way to the function's own workers is asked for no longer.
    await this.keepOwn(row, ask);
    const own = servingOf(row);
    const provided: WantedTarget[] = [];
    for (const target of targets) {
      const { revision: number, percent } = target;
      const resolved = this.policy.asMade(await this.namedBy(row, number, ask));
      const replicas = this.replicasOf(percent, locked, resolved);
      const running = number === own ? row : workloads.find(({ activeRevision }) => activeRevision === number);
      if (running === undefined) {
        // One that gets no calls of its own must show that it can serve.
        const first = Math.max(1, replicas, resolved.spec.min_replicas);
        const workload = await addWorkload(row, { number, resolved, replicas: first, withinMs }, ask);
        provided.push({ ...target, workload, replicas });
      } else {
        await keepWorkload(running.id, resolved, { replicas, withinMs }, ask);
        provided.push({ ...target, workload: running.id, replicas });
      }
    }
    return provided;
  }

  private replicasOf(percent: number, locked: LockedFunction, { spec }: Resolved): number {
    return replicasFor(percent, replicasNeeded(locked), spec.max_replicas ?? this.policy.mostReplicas);
  }

  private async namedBy(row: FunctionEntity, number: number, ask: Ask) {
    const sql =
      'SELECT number FROM revisions WHERE function_id = $1 AND number = $2 AND (layer_build IS NULL OR layer IS NOT NULL) FOR KEY SHARE';
    if ((await ask(sql, [row.id, number])).length === 0) throw await this.revisions.unusable(row.id, number, ask);
    return this.revisions.settingsOf(row, number, ask);
  }

  /** A manager of a former release may have removed the function alone. */
  private async removeOrphans(id: FunctionId): Promise<void> {
    await this.database.query(`UPDATE functions SET ${DELETED} WHERE workload_of = $1 AND deleted_at IS NULL`, [id]);
  }
}

const LOST: RevisionError = { code: 'function_not_ready', message: 'Its workers were removed meanwhile.' };

function seen(row: FunctionEntity): SeenWorkload {
  const { id, activeRevision: revision, endpoints, replicas, provisionalUntil, servingRevision } = row;
  // One address may stand for several replicas.
  const isAsWanted = row.observedGeneration === row.generation && row.reason === null;
  const ready = isAsWanted ? Math.max(endpoints.length, replicas) : endpoints.length;
  return { id, revision, ready, isProven: provisionalUntil === null && servingRevision === null };
}

function servedOf({ revision, percent, tag, workload }: WantedTarget): ServedTarget {
  return { revision, percent, ...(tag !== undefined && { tag }), workload };
}

/** What was wanted has the calls from now on. */
async function serve(id: FunctionId, { version, isAuto, targets }: WantedTraffic, ask: Ask): Promise<Settled> {
  if (isAuto) return { traffic: null, wanted: null };
  const shares = targets.map(servedOf);
  const numbers = shares.filter(({ percent }) => percent > 0).map(({ revision }) => revision);
  await ask('UPDATE revisions SET served_at = now() WHERE function_id = $1 AND number = ANY ($2)', [id, numbers]);
  return { traffic: { version, targets: shares }, wanted: null };
}

/** The revision that the function's own workers have by its traffic. */
function ownIn(traffic: Traffic | null, id: FunctionId): number | undefined {
  return traffic?.targets.find(({ workload }) => workload === id)?.revision;
}

/** The rows whose workers some traffic needs. */
function neededBy({ id }: FunctionEntity, { traffic, wanted }: Settled): Set<FunctionId> {
  return new Set([...(traffic === null ? [id] : workersIn(traffic)), ...(isLive(wanted) ? workersIn(wanted) : [])]);
}

/** What all workers that have calls now need to have them. */
function replicasNeeded({ row, workloads }: LockedFunction): number {
  const serving = row.traffic === null ? [row.id] : workersIn(row.traffic);
  const rows = [row, ...workloads].filter(({ id }) => serving.includes(id));
  return loadOf(rows.map(({ replicas, endpoints }) => Math.max(replicas, endpoints.length)));
}

function lateFault(wanted: WantedTraffic, rows: readonly FunctionEntity[]): RevisionError {
  const needed = workersIn(wanted);
  const waiting = rows.find(({ id, reason }) => reason !== null && needed.includes(id));
  const { message, detail } = waiting?.reason ?? {
    message: 'Not enough replicas were ready in time.',
    detail: undefined,
  };
  return { code: 'function_not_ready', message, ...(detail !== undefined && { detail }) };
}

/** Revisions whose workers have answered. */
async function proven(id: FunctionId, workloads: readonly FunctionEntity[], ask: Ask): Promise<void> {
  const numbers = workloads
    .filter(({ provisionalUntil }) => provisionalUntil === null)
    .map((one) => one.activeRevision);
  if (numbers.length === 0) return;
  await ask(
    `UPDATE revisions SET state = 'ready', error = NULL
     WHERE function_id = $1 AND number = ANY ($2) AND state IN ('pending', 'superseded')`,
    [id, numbers],
  );
}

async function write(id: FunctionId, { traffic, wanted }: Settled, ask: Ask): Promise<void> {
  await ask('UPDATE functions SET traffic = $2, wanted_traffic = $3 WHERE id = $1', [id, traffic, wanted]);
  await ask(`SELECT pg_notify('faas_changed', $1)`, [id]);
}

async function removeAll(workloads: readonly FunctionEntity[], ask: Ask): Promise<void> {
  if (workloads.length === 0) return;
  await ask(`UPDATE functions SET ${DELETED} WHERE id = ANY ($1) AND deleted_at IS NULL`, [
    workloads.map(({ id }) => id),
  ]);
}
