import { Batch } from '#libs/database/batch.js';
import { Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { ALL_COLUMNS, type FunctionEntity } from '../functions/function.entity.js';
import {
  areNewest,
  type Claim,
  IN_LOCK_ORDER,
  IS_UNHURRIED,
  type Lease,
  unhurried,
} from '../functions/function.repository.js';

/** Calls of one function that one manager runs or lets wait. */
export interface Demand {
  readonly id: FunctionId;
  /** The mean of the last moments. */
  readonly callsNow: number;
  /** The highest mean of the last time. */
  readonly callsLately: number;
}

/** A running function with the demand of all managers. */
export interface Load {
  readonly id: FunctionId;
  readonly replicas: number;
  readonly minReplicas: number;
  readonly maxReplicas: number;
  readonly concurrency: number;
  readonly memoryMiB: number;
  readonly callsNow: number;
  readonly callsLately: number;
}

/** A row that a wake has written, and what its step needs if the wake took the lease. */
export type Woken = Pick<Claim, 'row' | 'revision' | 'isFresh'>;

type WokenRow = FunctionEntity & { readonly isFresh: boolean } & (
    | {
        readonly number: number;
        readonly callable: string;
        readonly code: Buffer;
        readonly sha256: string;
        readonly layer: string | null;
      }
    | {
        readonly number: null;
        readonly callable: null;
        readonly code: null;
        readonly sha256: null;
        readonly layer: null;
      }
  );

interface Sleeper {
  readonly id: FunctionId;
  readonly lease: Lease | undefined;
}

const CAN_LEASE = `asked.token IS NOT NULL AND (lease_until IS NULL OR lease_until < now()) AND ${areNewest('settings')}`;
/** Workers of a revision that has lost its calls stay for its idle time, and no longer than this, for whoever goes back. */
const RESTING_MS = 5 * 60_000;
/** Demand that is older than this doesn't count. */
const FRESH_MS = 10_000;

/** All SQL about the demand for functions and their number of replicas. */
@Injectable()
export class DemandRepository {
  /** The id of this manager among those that share the database. */
  private readonly manager = randomUUID();

  private readonly wakes = new Batch((sleepers: readonly Sleeper[]) => this.wakeAll(sleepers));

  constructor(private readonly database: Database) {}

  /** Records that functions are used now. */
  async touch(ids: readonly FunctionId[]): Promise<void> {
    await this.database.query(
      `UPDATE functions SET last_used_at = now() WHERE id IN (
         SELECT id FROM functions WHERE id = ANY ($1) ${IN_LOCK_ORDER})`,
      [ids],
    );
  }

  async record(demands: readonly Demand[]): Promise<void> {
    await this.database.query(
      `INSERT INTO demands (function_id, manager, calls_now, calls_lately)
       SELECT seen.id, $1, seen.calls_now, seen.calls_lately
       FROM unnest($2::text[], $3::real[], $4::real[]) AS seen (id, calls_now, calls_lately)
       JOIN functions ON functions.id = seen.id
       ORDER BY seen.id
       ON CONFLICT (function_id, manager) DO UPDATE
         SET calls_now = EXCLUDED.calls_now, calls_lately = EXCLUDED.calls_lately, seen_at = now()`,
      [
        this.manager,
        demands.map(({ id }) => id),
        demands.map(({ callsNow }) => callsNow),
        demands.map(({ callsLately }) => callsLately),
      ],
    );
  }

  /**
   * Gives a function without replicas its first ones. Of many requests at once one counts, and gets the row. With a
   * lease it also gets the right to act upon the row and what that needs, unless another manager has that right. A
   * crash of the database may lose the wake: the call that waits, or the next one, asks for it again.
   */
  wake(id: FunctionId, lease?: Lease): Promise<Woken | undefined> {
    return this.wakes.add({ id, lease });
  }

  private async wakeAll(sleepers: readonly Sleeper[]): Promise<(Woken | undefined)[]> {
    const rows = await this.database.query<WokenRow>(
      `WITH ${unhurried()}, asked AS (
         SELECT DISTINCT ON (id) *
         FROM unnest($1::text[], $2::uuid[], $3::integer[], $4::text[])
           WITH ORDINALITY AS asked (id, token, ms, settings, place)
         ORDER BY id, place
       ), asleep AS (
         SELECT id FROM functions WHERE id = ANY ($1) AND replicas = 0 AND deleted_at IS NULL ${IN_LOCK_ORDER}
       ), woken AS (
         UPDATE functions SET replicas = GREATEST(1, min_replicas), generation = generation + 1, last_used_at = now(),
           phase = CASE WHEN phase = 'idle' THEN 'creating' ELSE phase END,
           phase_since = CASE WHEN phase = 'idle' THEN now() ELSE phase_since END,
           reconcile_at = now(), not_before = NULL, wakes = wakes + 1,
           lease_token = CASE WHEN ${CAN_LEASE} THEN asked.token ELSE lease_token END,
           lease_until = CASE WHEN ${CAN_LEASE} THEN clock_timestamp() + asked.ms * interval '1 millisecond'
             ELSE lease_until END
         FROM asked
         WHERE functions.id = asked.id AND functions.id IN (SELECT id FROM asleep) AND replicas = 0
           AND deleted_at IS NULL AND ${IS_UNHURRIED}
         RETURNING functions.*, asked.token
       ) SELECT ${ALL_COLUMNS}, number, callable, code, sha256, layer, phase = 'creating' AND phase_since = now() AS "isFresh"
         FROM woken LEFT JOIN LATERAL (
           SELECT number, revisions.function_name AS callable, code, code_sha256 AS sha256, layer
           FROM revisions
           WHERE function_id = COALESCE(workload_of, woken.id) AND number = active_revision AND lease_token = token
         ) AS revision ON true`,
      [
        sleepers.map(({ id }) => id),
        sleepers.map(({ lease }) => lease?.token ?? null),
        sleepers.map(({ lease }) => lease?.ms ?? null),
        sleepers.map(({ lease }) => lease?.settingsSha256 ?? null),
      ],
    );
    const woken = new Map(rows.map((row) => [row.id, wokenOf(row)]));
    // Of several requests for one function the first has the row.
    return sleepers.map(({ id }) => {
      const one = woken.get(id);
      woken.delete(id);
      return one;
    });
  }

  /** Whether any function has replicas, or should. */
  async areAwake(): Promise<boolean> {
    const [row] = await this.database.query<{ awake: boolean }>(
      'SELECT EXISTS (SELECT FROM functions WHERE replicas > 0) AS awake',
    );
    return row?.awake === true;
  }

  /** Takes the replicas from functions without a call in their idle time. Resolves with their ids. */
  async putToSleep(): Promise<FunctionId[]> {
    const rows = await this.database.query<{ id: FunctionId }>(
      `UPDATE functions SET replicas = 0, generation = generation + 1, reconcile_at = now(), wakes = wakes + 1
       WHERE id IN (
         SELECT id FROM functions
         WHERE replicas > 0 AND deleted_at IS NULL
           AND (resting_since IS NOT NULL OR (min_replicas = 0 AND idle_timeout_ms > 0))
           AND provisional_until IS NULL AND rollout_until IS NULL
           AND (phase = 'running' OR phase = 'error' AND last_fault->>'code' = 'handler_not_loadable')
           AND NOT EXISTS (SELECT FROM functions AS waiting WHERE waiting.wanted_traffic->'fault' = 'null'
             AND waiting.id = COALESCE(functions.workload_of, functions.id))
           AND last_used_at < now() - interval '1 millisecond'
             * CASE WHEN resting_since IS NULL THEN idle_timeout_ms
                 ELSE LEAST(NULLIF(idle_timeout_ms, 0), ${RESTING_MS}) END
         ${IN_LOCK_ORDER})
       RETURNING id`,
    );
    return rows.map(({ id }) => id);
  }

  /**
   * All functions whose number of replicas may have to change. `mostReplicas`: the limit of those that name none.
   * Functions without a ready replica are left out: their first replica starts fastest when no others start beside it.
   */
  async loads(mostReplicas: number): Promise<Load[]> {
    return this.database.query<Load>(
      `SELECT id, replicas, CASE WHEN resting_since IS NULL THEN min_replicas ELSE 0 END AS "minReplicas", concurrency, memory_mib AS "memoryMiB",
         COALESCE(max_replicas, GREATEST($1::integer, min_replicas)) AS "maxReplicas",
         COALESCE(sum(calls_now), 0)::float8 AS "callsNow", COALESCE(sum(calls_lately), 0)::float8 AS "callsLately"
       FROM functions LEFT JOIN demands
         ON function_id = id AND seen_at > now() - $2::integer * interval '1 millisecond'
       WHERE replicas > 0 AND deleted_at IS NULL AND provisional_until IS NULL AND phase = 'running'
         AND (replicas > GREATEST(1, min_replicas) OR function_id IS NOT NULL OR (replicas < min_replicas AND resting_since IS NULL))
       GROUP BY id`,
      [mostReplicas, FRESH_MS],
    );
  }

  /** The memory that all wanted replicas may use together. */
  async memoryInUseMiB(): Promise<number> {
    const [row] = await this.database.query<{ sum: number }>(
      'SELECT COALESCE(sum(replicas * memory_mib), 0)::float8 AS sum FROM functions WHERE replicas > 0',
    );
    return row?.sum ?? 0;
  }

  /** Changes the number of replicas, unless it has changed meanwhile. */
  async scale(id: FunctionId, from: number, to: number): Promise<void> {
    await this.database.query(
      `UPDATE functions SET replicas = $3, generation = generation + 1, reconcile_at = now(), wakes = wakes + 1
       WHERE id = $1 AND replicas = $2 AND deleted_at IS NULL`,
      [id, from, to],
    );
  }

  /** Removes what managers that are gone have left. */
  async forgetStale(): Promise<void> {
    await this.database.query(
      `DELETE FROM demands WHERE (function_id, manager) IN (
         SELECT function_id, manager FROM demands WHERE seen_at < now() - interval '1 minute' FOR UPDATE SKIP LOCKED)`,
    );
  }
}

function wokenOf({ isFresh, number, callable, code, sha256, layer, ...row }: WokenRow): Woken {
  if (number === null) return { row };
  return { row, isFresh, revision: { number, functionName: callable, code, codeSha256: sha256, layer } };
}
