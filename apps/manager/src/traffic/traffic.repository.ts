import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { type Ask, FunctionLock, type LockedFunction } from '../functions/function-lock.js';
import { type FunctionEntity, servingOf } from '../functions/function.entity.js';
import { DELETED } from '../functions/function.repository.js';
import { RevisionNotFound } from '../revisions/errors.js';
import type { RevisionError } from '../revisions/revision.entity.js';
import { type Resolve, type Resolved, RevisionRepository } from '../revisions/revision.repository.js';
import {
  loadOf,
  replicasFor,
  type SeenWorkload,
  settling,
  type Target,
  type Traffic,
  type WantedTarget,
  type WantedTraffic,
} from './traffic.js';
import { addWorkload, keepWorkload } from './workloads.js';

/** What users ask for: targets, or all calls for the newest revision that is ready. */
export type Wish = readonly Target[] | 'auto';

/** How long workers stay whose revision has lost its calls, so that going back finds them. */
const KEPT_MS = 5 * 60_000;
/** When the manager that waits for its traffic ends, another one gives up this much later. */
const MARGIN_MS = 5_000;

/** All SQL about the traffic of functions. */
@Injectable()
export class TrafficRepository {
  constructor(
    private readonly lock: FunctionLock,
    private readonly revisions: RevisionRepository,
  ) {}

  /**
   * Writes down which traffic is wanted, and makes the workers that it needs. What was wanted before is forgotten.
   * Throws {@link RevisionNotFound} and what {@link FunctionLock} throws.
   */
  want(
    id: FunctionId,
    wish: Wish,
    resolve: Resolve,
    { versions, withinMs }: { readonly versions: readonly number[] | undefined; readonly withinMs: number },
  ): Promise<number> {
    return this.lock.changing(id, versions, async (locked) => {
      const { row, ask } = locked;
      if (wish === 'auto' && row.traffic === null && row.wantedTraffic?.targets == null) return row.version;
      // From now on its row may differ from what its revision names.
      await this.revisions.settingsOf(row, servingOf(row), ask);
      const version = row.version + 1;
      const load = replicasOf(locked);
      const until = new Date(Date.now() + withinMs + MARGIN_MS).toISOString();
      const wanted: WantedTraffic =
        wish === 'auto'
          ? {
              version,
              targets: null,
              revision: await this.takeBack(locked, load, resolve, withinMs),
              until,
              fault: null,
            }
          : {
              version,
              targets: await this.provide(locked, wish, load, resolve, withinMs),
              revision: null,
              until,
              fault: null,
            };
      await ask(
        `UPDATE functions SET wanted_traffic = $2, version = $3, reconcile_at = now(), wakes = wakes + 1 WHERE id = $1`,
        [id, wanted, version],
      );
      return version;
    });
  }

  /**
   * One idempotent step of a function whose calls are divided, or are about to be: serves the wanted traffic when its
   * workers are ready, gives it up when that takes too long, and lets workers go that no traffic needs. True: it has
   * changed.
   */
  async settle(id: FunctionId, isOver = false): Promise<boolean> {
    const changed = await this.lock.with(id, async (locked) => {
      const { row, workloads, ask } = locked;
      if (row.deletedAt !== null) return false;
      await proven(id, workloads, ask);
      const { wantedTraffic: wanted } = row;
      const next = wanted === null || wanted.fault !== null ? undefined : await this.settled(locked, wanted, isOver);
      if (next !== undefined) await write(id, next, ask);
      const { traffic, wanted: left } = next ?? { traffic: row.traffic, wanted };
      await letGo(locked, new Set([...workersIn(traffic), ...(left?.fault === null ? workersIn(left) : [])]));
      return next !== undefined;
    });
    return changed === true;
  }

  /** Workers that were made for a revision can't serve: they go, and what needed them is not to be. */
  async fail(id: FunctionId, workload: FunctionEntity, error: RevisionError): Promise<void> {
    await this.lock.with(id, async ({ row, ask }) => {
      await ask(
        `UPDATE revisions SET state = 'failed', error = $3
         WHERE function_id = $1 AND number = $2 AND state = 'pending'`,
        [id, workload.activeRevision, error],
      );
      await ask(`UPDATE functions SET ${DELETED} WHERE id = $1`, [workload.id]);
      const { traffic, wantedTraffic: wanted } = row;
      const isNeeded = wanted?.targets?.some((target) => target.workload === workload.id) === true;
      if (wanted !== null && isNeeded && wanted.fault === null) {
        await write(id, { traffic, wanted: { ...wanted, fault: error } }, ask);
      }
    });
  }

  /** What the present traffic and the wanted one become; undefined: they stay. */
  private async settled(
    { row, workloads, ask }: LockedFunction,
    wanted: WantedTraffic,
    isOver: boolean,
  ): Promise<Settled | undefined> {
    const { traffic } = row;
    const { targets, revision } = wanted;
    if (targets === null && row.servingRevision === null && row.activeRevision !== revision) {
      const error = await this.errorOf(row.id, revision, ask);
      return { traffic, wanted: { ...wanted, fault: error ?? lostFault() } };
    }
    const all = [row, ...workloads];
    // The function's own workers have what was wanted of them when the revision has taken over.
    const isOnItsWay = targets === null && (row.servingRevision !== null || row.endpoints.length === 0);
    const found = isOnItsWay && Date.parse(wanted.until) > Date.now() ? 'waits' : isOnItsWay ? 'late' : undefined;
    switch (found ?? settling(wanted, all.map(seen), new Date())) {
      case 'waits':
        return isOver ? { traffic, wanted: { ...wanted, fault: lateFault(wanted, all) } } : undefined;
      case 'late':
        return { traffic, wanted: { ...wanted, fault: lateFault(wanted, all) } };
      case 'lost':
        return { traffic, wanted: { ...wanted, fault: lostFault() } };
      case 'served': {
        const shares = (targets ?? []).map(({ replicas: _, ...target }) => target);
        const numbers = shares.filter(({ percent }) => percent > 0).map((target) => target.revision);
        await ask(`UPDATE revisions SET served_at = now() WHERE function_id = $1 AND number = ANY ($2)`, [
          row.id,
          numbers,
        ]);
        return { traffic: targets === null ? null : { version: wanted.version, targets: shares }, wanted: null };
      }
    }
  }

  private async errorOf(id: FunctionId, number: number | null, ask: Ask): Promise<RevisionError | null> {
    const sql = 'SELECT error FROM revisions WHERE function_id = $1 AND number = $2';
    const [revision] = await ask<{ error: RevisionError | null }>(sql, [id, number]);
    return revision?.error ?? null;
  }

  /** The function's own workers shall have all calls, with the newest revision that was ever ready. */
  private async takeBack(
    { row, ask }: LockedFunction,
    load: number,
    resolve: Resolve,
    withinMs: number,
  ): Promise<number> {
    const [newest] = await ask<{ number: number }>(
      `SELECT number FROM revisions WHERE function_id = $1 AND state = 'ready' ORDER BY number DESC LIMIT 1`,
      [row.id],
    );
    const number = newest?.number ?? row.activeRevision;
    const resolved = resolve(await this.revisions.settingsOf(row, number, ask));
    if (number !== row.activeRevision) {
      await this.revisions.activate(row, number, servingOf(row), resolved, withinMs, ask);
    }
    await keepWorkload(row.id, resolved, replicasFor(100, load, resolved.spec.max_replicas), ask);
    return number;
  }

  private async provide(
    { row, workloads, ask }: LockedFunction,
    targets: readonly Target[],
    load: number,
    resolve: Resolve,
    withinMs: number,
  ): Promise<WantedTarget[]> {
    // A revision on its way to the function's own workers is asked for no longer.
    if (row.servingRevision !== null) {
      const former = resolve(await this.revisions.settingsOf(row, row.servingRevision, ask));
      await this.revisions.activate(row, row.servingRevision, row.servingRevision, former, null, ask);
    }
    const own = servingOf(row);
    const provided: WantedTarget[] = [];
    for (const target of targets) {
      const { revision: number, percent } = target;
      const resolved = resolve(await this.namedBy(row, number, ask));
      const replicas = replicasFor(percent, load, resolved.spec.max_replicas);
      const running = number === own ? row : workloads.find(({ activeRevision }) => activeRevision === number);
      const workload = running?.id ?? (await addWorkload(row, newWorkload(number, resolved, replicas, withinMs), ask));
      if (running !== undefined) await keepWorkload(workload, resolved, replicas, ask);
      provided.push({ ...target, workload, replicas });
    }
    return provided;
  }

  private async namedBy(row: FunctionEntity, number: number, ask: Ask) {
    const sql = 'SELECT number FROM revisions WHERE function_id = $1 AND number = $2 FOR KEY SHARE';
    if ((await ask(sql, [row.id, number])).length === 0) throw new RevisionNotFound(row.id, number);
    return this.revisions.settingsOf(row, number, ask);
  }
}

interface Settled {
  readonly traffic: Traffic | null;
  readonly wanted: WantedTraffic | null;
}

function newWorkload(number: number, resolved: Resolved, replicas: number, withinMs: number) {
  // One that gets no calls of its own must show that it can serve.
  return { number, resolved, replicas: Math.max(1, replicas, resolved.spec.min_replicas), withinMs };
}

function seen({ id, endpoints, provisionalUntil, servingRevision }: FunctionEntity): SeenWorkload {
  const isProven = provisionalUntil === null && servingRevision === null;
  return { id, ready: endpoints.length, isProven };
}

/** What all workers that have calls now need to have them. */
function replicasOf({ row, workloads }: Omit<LockedFunction, 'ask'>): number {
  const serving = row.traffic === null ? [row.id] : workersIn(row.traffic);
  const rows = [row, ...workloads].filter(({ id }) => serving.includes(id));
  return loadOf(rows.map(({ replicas, endpoints }) => Math.max(replicas, endpoints.length)));
}

function workersIn(traffic: Traffic | WantedTraffic | null): FunctionId[] {
  return (traffic?.targets ?? []).map(({ workload }) => workload);
}

function lateFault(wanted: WantedTraffic, rows: readonly FunctionEntity[]): RevisionError {
  const needed = workersIn(wanted);
  const waiting = rows.find(({ id, reason }) => reason !== null && (needed.length === 0 || needed.includes(id)));
  const { message, detail } = waiting?.reason ?? {
    message: 'Not enough replicas were ready in time.',
    detail: undefined,
  };
  return { code: 'function_not_ready', message, ...(detail !== undefined && { detail }) };
}

function lostFault(): RevisionError {
  return { code: 'function_not_ready', message: 'Its workers were removed meanwhile.' };
}

/** Revisions whose workers have answered. */
async function proven(id: FunctionId, workloads: readonly FunctionEntity[], ask: Ask): Promise<void> {
  const numbers = workloads
    .filter(({ provisionalUntil }) => provisionalUntil === null)
    .map((one) => one.activeRevision);
  if (numbers.length === 0) return;
  await ask(
    `UPDATE revisions SET state = 'ready', error = NULL
     WHERE function_id = $1 AND number = ANY ($2) AND state <> 'ready'`,
    [id, numbers],
  );
}

async function write(id: FunctionId, { traffic, wanted }: Settled, ask: Ask): Promise<void> {
  await ask('UPDATE functions SET traffic = $2, wanted_traffic = $3 WHERE id = $1', [id, traffic, wanted]);
  await ask(`SELECT pg_notify('faas_changed', $1)`, [id]);
}

/** Workers without traffic may sleep, and go once they do. New ones are let be until they have answered. */
async function letGo({ row, workloads, ask }: LockedFunction, needed: ReadonlySet<FunctionId>): Promise<void> {
  const others = [row, ...workloads].filter(({ id, provisionalUntil }) => !needed.has(id) && provisionalUntil === null);
  const asleep = others.filter(({ phase, replicas }) => phase === 'idle' && replicas === 0);
  const gone = asleep.filter(({ id }) => id !== row.id).map(({ id }) => id);
  // The function's own workers have the calls where nobody has divided them.
  const resting = others.filter(({ id }) => !gone.includes(id) && (id !== row.id || needed.size > 0));
  if (gone.length > 0) await ask(`UPDATE functions SET ${DELETED} WHERE id = ANY ($1)`, [gone]);
  if (resting.length === 0) return;
  await ask(
    `UPDATE functions SET min_replicas = 0, idle_timeout_ms = LEAST(NULLIF(idle_timeout_ms, 0), $2::integer),
       said = array(SELECT DISTINCT unnest(said || ARRAY['min_replicas', 'idle_timeout_ms']))
     WHERE id = ANY ($1) AND (min_replicas > 0 OR idle_timeout_ms NOT BETWEEN 1 AND $2::integer)`,
    [resting.map(({ id }) => id), KEPT_MS],
  );
}
