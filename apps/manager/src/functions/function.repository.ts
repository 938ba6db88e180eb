import type { FunctionDefaults } from '#libs/config/config.js';
import { Batch } from '#libs/database/batch.js';
import { Database } from '#libs/database/database.js';
import { Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { type Endpoint, type FunctionId } from '#libs/orchestrator/workload.js';
import {
  ALL_COLUMNS,
  type FunctionEntity,
  LISTED_COLUMNS,
  type ListedFunction,
  type Phase,
  type StoredFault,
} from './function.entity.js';
import { isName, type Metadata } from './dto/metadata.dto.js';
import { NameTaken } from './errors.js';
import { isFunctionId } from './function-id.js';
import type { Filter, Page } from './page.js';
import { SETTING_NAMES, type SpecColumns, specOf } from '../revisions/function-spec.js';
import type { RevisionEntity } from '../revisions/revision.entity.js';

export type NewFunction = Pick<FunctionEntity, 'id' | 'functionName' | 'replicas' | 'pids' | 'said'> &
  Metadata &
  SpecColumns & {
    readonly code: Buffer;
    readonly codeSha256: string;
    readonly createdBy: string | null;
    readonly provisionalForMs: number;
    readonly isRun?: boolean;
    /** The digest of its first revision's layer. */
    readonly layerDigest?: string | null;
  };

export type Revision = Pick<RevisionEntity, 'number' | 'functionName' | 'code' | 'codeSha256' | 'layer'>;

/** The right to act upon a row for a while, taken in the statement that asks for the action. */
export interface Lease {
  readonly token: string;
  readonly ms: number;
  /** Granted while these settings are the newest; unset: whatever they are. */
  readonly settingsSha256?: string | undefined;
}

/** A row that this manager may act upon until its lease ends. */
export interface Claim {
  readonly row: FunctionEntity;
  readonly token: string;
  /** How long the row had been due, in milliseconds. */
  readonly lateMs: number;
  /** Its active revision, if it is known already. */
  readonly revision?: Revision;
  /** The engine has nothing of it: it is new, or had no replicas when it was last seen, and nobody has acted since. */
  readonly isFresh?: boolean;
}

/** What a reconcile step writes back. Times are relative, so that only the database's clock counts. */
export interface Outcome {
  readonly phase: Phase;
  readonly reason: StoredFault | null;
  readonly lastFault: StoredFault | null;
  readonly endpoints: readonly Endpoint[];
  readonly primaryReplica: string;
  readonly hostPort: number;
  readonly observedGeneration: number;
  readonly provisional: boolean;
  readonly failures: number;
  /** For how long replicas that end aren't replaced; null: no backoff. */
  readonly backoffMs: number | null;
  /** When the row is due again unless something asks sooner; null: only when asked. */
  readonly nextMs: number | null;
  /** The active revision has the calls from now on. */
  readonly takesOver: boolean;
  /** The function didn't become ready in time: remove it. */
  readonly abandon: boolean;
}

interface RevisionKey {
  readonly id: FunctionId;
  readonly number: number;
}

interface Step {
  readonly claim: Claim;
  readonly outcome: Outcome;
}

/** All functions of one phase. */
export interface PhaseCount {
  readonly phase: Phase;
  readonly functions: number;
  readonly replicasWanted: number;
  readonly replicasReady: number;
}

/**
 * Statements that change many rows lock them in one order, or two of them could wait for each other
 * (https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-DEADLOCKS).
 */
export const IN_LOCK_ORDER = 'ORDER BY id FOR NO KEY UPDATE';
/**
 * The commit doesn't wait for the disk, unless `but` is true. For what a crash of the database may take back: leases,
 * wakes that a call asks for again, and what a step saw, which the next one sees, too.
 */
export function unhurried(but = 'false'): string {
  const wait = `CASE WHEN ${but} THEN current_setting('synchronous_commit') ELSE 'off' END`;
  return `unhurried AS (SELECT set_config('synchronous_commit', ${wait}, true))`;
}
export const IS_UNHURRIED = 'EXISTS (SELECT FROM unhurried)';
/** A manager may hear late that others have newer settings: the database is asked whether a step may begin in it. */
export function areNewest(parameter: string): string {
  return `(${parameter}::text IS NULL OR ${parameter} = (SELECT settings_sha256 FROM installation))`;
}
/** Each may be as large as an upload. */
const FILES_AT_ONCE = 8;
/** The replicas that new defaults keep. */
const AWAKE = 'CASE WHEN resting_since IS NULL THEN wanted.min_replicas ELSE 0 END';
/** A setting that a manager of the release before doesn't know, and sets to its own default. */
function ofRevision(setting: string): string {
  return `COALESCE((SELECT (settings->>'${setting}')::integer FROM revisions
    WHERE function_id = COALESCE(workload_of, functions.id) AND number = active_revision), ${setting})`;
}
export const DUE_NOW = 'reconcile_at = now(), wakes = wakes + 1';
/** What a removal writes to a row. */
export const DELETED = `
  phase_since = CASE WHEN deleted_at IS NULL THEN now() ELSE phase_since END,
  generation = CASE WHEN deleted_at IS NULL THEN generation + 1 ELSE generation END,
  deleted_at = COALESCE(deleted_at, now()), phase = 'deleting',
  endpoints = '[]', reason = NULL, failures = 0, postponed = 0,
  not_before = NULL, ${DUE_NOW}`;
/** A function whose revisions still have workers waits for them to go, and is told of the last. */
const WORKLOADS_WAIT_MS = 1_000;

/**
 * All SQL about functions. The row is the queue: a statement that changes what is wanted requests the reconcile too.
 */
@Injectable()
export class FunctionRepository {
  private readonly finds = new Batch((ids: readonly FunctionId[]) => this.findAll(ids));
  private readonly named = new Batch((names: readonly string[]) => this.findNamed(names));
  private readonly revisions = new Batch((wanted: readonly RevisionKey[]) => this.findRevisions(wanted), FILES_AT_ONCE);
  private readonly records = new Batch((steps: readonly Step[]) => this.recordAll(steps));

  constructor(private readonly database: Database) {}

  /**
   * Writes a new function, due at once, or with the lease of the manager that will make its step. Throws
   * {@link NameTaken}.
   */
  async insert(created: NewFunction, lease?: Lease): Promise<FunctionEntity> {
    const spec = specOf(created);
    const settings = Object.values(spec);
    const namedSettings = Object.fromEntries(created.said.map((name) => [name, spec[name]]));
    const [row] = await this.unlessTaken<FunctionEntity>(
      created.name,
      `WITH added AS (
         INSERT INTO functions (id, function_name, active_revision, replicas, pids, phase,
           provisional_until, reconcile_at, lease_token, lease_until, said, name, description, labels, enabled, is_run,
           public, invocation_defaults, history, ${SETTING_NAMES.join(', ')})
         VALUES ($1, $2, 1, $3, $4, 'creating', now() + $5 * interval '1 millisecond', now(),
           CASE WHEN ${areNewest('$11')} THEN $6::uuid END,
           CASE WHEN ${areNewest('$11')} THEN now() + $7 * interval '1 millisecond' END,
           $10, $12, $13, $14, $15, $16, $17, $18, $19, ${settings.map((_, index) => `$${20 + index}`).join(', ')})
         RETURNING *
       ), code AS (
         INSERT INTO revisions (function_id, number, function_name, code, code_sha256, settings, created_by, served_at,
           layer)
         SELECT id, 1, function_name, $8, $9, $${20 + settings.length}::jsonb, $${21 + settings.length}, now(),
           $${22 + settings.length} FROM added
       ) SELECT ${ALL_COLUMNS} FROM added`,
      [
        created.id,
        created.functionName,
        created.replicas,
        created.pids,
        Math.trunc(created.provisionalForMs),
        lease?.token ?? null,
        lease?.ms ?? null,
        created.code,
        created.codeSha256,
        created.said,
        lease?.settingsSha256 ?? null,
        created.name,
        created.description,
        JSON.stringify(created.labels),
        created.enabled,
        created.isRun ?? false,
        created.public,
        JSON.stringify(created.invocation_defaults),
        JSON.stringify(created.history),
        ...settings,
        JSON.stringify(namedSettings),
        created.createdBy,
        created.layerDigest ?? null,
      ],
    );
    return row as FunctionEntity;
  }

  find(id: FunctionId): Promise<FunctionEntity | null> {
    return this.finds.add(id);
  }

  /** By id, or by name. One that is being removed has no name any more. */
  async findBy(reference: string): Promise<FunctionEntity | null> {
    if (isFunctionId(reference)) {
      const row = await this.find(reference);
      return row?.workloadOf === null && !row.isRun ? row : null;
    }
    return isName(reference) ? this.named.add(reference) : null;
  }

  private async findNamed(names: readonly string[]): Promise<(FunctionEntity | null)[]> {
    const rows = await this.database.query<FunctionEntity>(
      `SELECT ${ALL_COLUMNS} FROM functions WHERE name = ANY ($1) AND name IS NOT NULL AND deleted_at IS NULL`,
      [names],
    );
    const found = new Map(rows.map((row) => [row.name, row]));
    return names.map((name) => found.get(name) ?? null);
  }

  /** Changes what users say of a function. Null: it has another version by now. Throws {@link NameTaken}. */
  async describe(id: FunctionId, version: number, metadata: Metadata): Promise<FunctionEntity | null> {
    const { name, description, labels, enabled } = metadata;
    const [row] = await this.unlessTaken<FunctionEntity>(
      name,
      `UPDATE functions SET name = $3, description = $4, labels = $5, enabled = $6, public = $7,
         invocation_defaults = $8, history = $9, version = version + 1
       WHERE id = $1 AND version = $2 AND deleted_at IS NULL RETURNING ${ALL_COLUMNS}`,
      [
        id,
        version,
        name,
        description,
        JSON.stringify(labels),
        enabled,
        metadata.public,
        JSON.stringify(metadata.invocation_defaults),
        JSON.stringify(metadata.history),
      ],
    );
    return row ?? null;
  }

  private async unlessTaken<Row>(name: string | null, sql: string, values: readonly unknown[]): Promise<Row[]> {
    try {
      return await this.database.query<Row>(sql, values);
    } catch (error) {
      if (name !== null && (error as { constraint?: unknown }).constraint === 'functions_name') {
        throw new NameTaken(name);
      }
      throw error;
    }
  }

  private async findAll(ids: readonly FunctionId[]): Promise<(FunctionEntity | null)[]> {
    const sql = `SELECT ${ALL_COLUMNS} FROM functions WHERE id = ANY ($1)`;
    const rows = new Map((await this.database.query<FunctionEntity>(sql, [ids])).map((row) => [row.id, row]));
    return ids.map((id) => rows.get(id) ?? null);
  }

  /** In the order of creation, with only what the list shows, as there may be very many. */
  list({ limit, after, name, status, labels = {}, keys = [] }: Page & Filter = {}): Promise<ListedFunction[]> {
    return this.database.query<ListedFunction>(
      `SELECT ${LISTED_COLUMNS} FROM functions
       WHERE workload_of IS NULL AND NOT is_run AND position > $1 AND ($3::text IS NULL OR name = $3 OR id = $3) AND ($4::text IS NULL OR phase = $4)
         AND labels @> $5 AND labels ?& $6
       ORDER BY position LIMIT $2`,
      [after ?? '0', limit ?? null, name ?? null, status ?? null, JSON.stringify(labels), keys],
    );
  }

  revision(id: FunctionId, number: number): Promise<Revision | null> {
    return this.revisions.add({ id, number });
  }

  private async findRevisions(wanted: readonly RevisionKey[]): Promise<(Revision | null)[]> {
    const rows = await this.database.query<Revision & Pick<RevisionKey, 'id'>>(
      `SELECT function_id AS id, number, function_name AS "functionName", code, code_sha256 AS "codeSha256",
         layer
       FROM revisions WHERE (function_id, number) IN (SELECT * FROM unnest($1::text[], $2::integer[]))`,
      [wanted.map(({ id }) => id), wanted.map(({ number }) => number)],
    );
    const found = new Map(rows.map(({ id, ...revision }) => [`${id} ${revision.number}`, revision]));
    return wanted.map(({ id, number }) => found.get(`${id} ${number}`) ?? null);
  }

  /** Hex SHA-256 of a revision's code, without reading the code. */
  async codeSha256(id: FunctionId, number: number): Promise<string | null> {
    const sql = 'SELECT code_sha256 AS sha256 FROM revisions WHERE function_id = $1 AND number = $2';
    const [revision] = await this.database.query<{ sha256: string }>(sql, [id, number]);
    return revision?.sha256 ?? null;
  }

  /** How large the uploaded file is. */
  async codeBytes(id: FunctionId, number: number): Promise<number | null> {
    const sql = 'SELECT octet_length(code) AS bytes FROM revisions WHERE function_id = $1 AND number = $2';
    const [revision] = await this.database.query<{ bytes: number }>(sql, [id, number]);
    return revision?.bytes ?? null;
  }

  /** How many functions and replicas there are, by phase. */
  countsByPhase(): Promise<PhaseCount[]> {
    return this.database.query<PhaseCount>(
      `SELECT phase, (count(*) FILTER (WHERE workload_of IS NULL AND NOT is_run))::integer AS functions, sum(replicas)::integer AS "replicasWanted",
         sum(jsonb_array_length(endpoints))::integer AS "replicasReady"
       FROM functions GROUP BY phase`,
    );
  }

  /** Those of the functions that still exist. */
  async existing(ids: readonly FunctionId[]): Promise<FunctionId[]> {
    const rows = await this.database.query<{ id: FunctionId }>('SELECT id FROM functions WHERE id = ANY ($1)', [ids]);
    return rows.map(({ id }) => id);
  }

  /**
   * Records a removal, with that of the workers of its revisions; null: there is no such function, or it has none of
   * these versions. Doing it twice changes nothing.
   */
  async markDeleted(id: FunctionId, versions?: readonly number[]): Promise<FunctionEntity | null> {
    const rows = await this.database.query<FunctionEntity>(
      `WITH held AS (
         SELECT id, version FROM functions WHERE (id = $1 AND workload_of IS NULL) OR workload_of = $1 ${IN_LOCK_ORDER}
       ), allowed AS (
         SELECT FROM held WHERE id = $1 AND ($2::integer[] IS NULL OR version = ANY ($2))
       )
       UPDATE functions SET ${DELETED}
       WHERE id IN (SELECT id FROM held) AND EXISTS (SELECT FROM allowed) RETURNING ${ALL_COLUMNS}`,
      [id, versions ?? null],
    );
    return rows.find((row) => row.id === id) ?? null;
  }

  /** The rows that have workers of a function: its own, and those of revisions beside it. */
  async idsOf(id: FunctionId): Promise<FunctionId[]> {
    const rows = await this.database.query<{ id: FunctionId }>(
      'SELECT id FROM functions WHERE id = $1 OR workload_of = $1',
      [id],
    );
    return rows.map((row) => row.id);
  }

  /** Requests a reconcile of one function. */
  async requestReconcile(id: FunctionId): Promise<void> {
    await this.database.query(`UPDATE functions SET ${DUE_NOW} WHERE id = $1`, [id]);
  }

  /**
   * Requests a reconcile of all functions that may have changed unseen. Those that sleep and aren't due are left out:
   * they have nothing on the engine, and thousands of steps for them would delay an upload.
   */
  async requestReconcileOfAll(): Promise<void> {
    await this.database.query(
      `UPDATE functions SET ${DUE_NOW} WHERE id IN (
         SELECT id FROM functions
         WHERE NOT (phase = 'idle' AND replicas = 0 AND observed_generation = generation AND deleted_at IS NULL
           AND reconcile_at IS NULL)
         ${IN_LOCK_ORDER})`,
    );
  }

  /**
   * Gives functions the installation's defaults where their uploads have said nothing else, while these settings are the
   * newest. Functions with replicas are due: theirs are replaced. Answers how many have changed.
   */
  async applyDefaults(defaults: FunctionDefaults, settingsSha256: string): Promise<number> {
    const { memoryMiB, cpuMillis, pids, timeoutMs, idleTimeoutMs, minReplicas, concurrency } = defaults;
    const rows = await this.database.query(
      `WITH newest AS (
         SELECT FROM installation WHERE settings_sha256 = $8 FOR SHARE
       ), wanted AS (
         SELECT id, $3::integer AS pids,
           CASE WHEN 'memory_mib' = ANY (said) THEN ${ofRevision('memory_mib')} ELSE $1 END AS memory_mib,
           CASE WHEN 'cpu_millis' = ANY (said) THEN ${ofRevision('cpu_millis')} ELSE $2 END AS cpu_millis,
           CASE WHEN 'timeout_ms' = ANY (said) THEN timeout_ms ELSE $4 END AS timeout_ms,
           CASE WHEN 'idle_timeout_ms' = ANY (said) THEN idle_timeout_ms ELSE $5 END AS idle_timeout_ms,
           CASE WHEN 'min_replicas' = ANY (said) THEN min_replicas
             ELSE LEAST($6, COALESCE(max_replicas, $6)) END AS min_replicas,
           CASE WHEN 'concurrency' = ANY (said) THEN concurrency ELSE $7 END AS concurrency
         FROM functions WHERE deleted_at IS NULL AND EXISTS (SELECT FROM newest)
       ), changed AS (
         SELECT id FROM functions JOIN wanted USING (id)
         WHERE (functions.memory_mib, functions.cpu_millis, functions.pids, functions.timeout_ms,
             functions.idle_timeout_ms, functions.min_replicas, functions.concurrency)
           IS DISTINCT FROM (wanted.memory_mib, wanted.cpu_millis, wanted.pids, wanted.timeout_ms,
             wanted.idle_timeout_ms, wanted.min_replicas, wanted.concurrency)
         ${IN_LOCK_ORDER} OF functions)
       UPDATE functions SET memory_mib = wanted.memory_mib, cpu_millis = wanted.cpu_millis, pids = wanted.pids,
         timeout_ms = wanted.timeout_ms, idle_timeout_ms = wanted.idle_timeout_ms,
         min_replicas = wanted.min_replicas, concurrency = wanted.concurrency,
         replicas = GREATEST(replicas, ${AWAKE}),
         generation = generation + 1,
         observed_generation = observed_generation
           + CASE WHEN replicas = 0 AND ${AWAKE} = 0 AND observed_generation = generation THEN 1 ELSE 0 END,
         reconcile_at = CASE WHEN replicas = 0 AND ${AWAKE} = 0 THEN reconcile_at ELSE now() END,
         wakes = wakes + 1
       FROM wanted
       WHERE functions.id = wanted.id AND functions.id IN (SELECT id FROM changed)
       RETURNING functions.id`,
      [memoryMiB, cpuMillis, pids, timeoutMs, idleTimeoutMs, minReplicas, concurrency, settingsSha256],
    );
    return rows.length;
  }

  /**
   * Claims up to `limit` due rows without a lease, of all functions or of some only. Rows with a change that hasn't
   * been seen running come first, so that an upload or a wake doesn't wait behind the resync of thousands; then the
   * longest due. None for settings that are no longer the newest: their manager may hear of that late.
   */
  async claim(
    limit: number,
    leaseMs: number,
    { only, settingsSha256 }: { only?: readonly FunctionId[] | undefined; settingsSha256?: string | undefined } = {},
  ): Promise<Claim[]> {
    const token = randomUUID();
    const rows = await this.database.query<FunctionEntity & { lateMs: number }>(
      `WITH ${unhurried()}, due AS MATERIALIZED (
         SELECT id FROM functions
         WHERE reconcile_at <= now() AND (lease_until IS NULL OR lease_until < now())
           AND ($4::text[] IS NULL OR id = ANY ($4))
           AND ${areNewest('$5')} AND ${IS_UNHURRIED}
         ORDER BY observed_generation = generation, reconcile_at LIMIT $3 FOR UPDATE SKIP LOCKED
       )
       UPDATE functions SET lease_token = $1, lease_until = now() + $2 * interval '1 millisecond'
       WHERE id IN (SELECT id FROM due)
       RETURNING ${ALL_COLUMNS}, (extract(epoch FROM now() - reconcile_at) * 1000)::float8 AS "lateMs"`,
      [token, leaseMs, limit, only ?? null, settingsSha256 ?? null],
    );
    return rows.map(({ lateMs, ...row }) => ({ row, token, lateMs }));
  }

  /** False when the lease was lost: its holder must stop acting. */
  async renew({ row, token }: Claim, leaseMs: number): Promise<boolean> {
    const renewed = await this.database.query(
      `UPDATE functions SET lease_until = now() + $3 * interval '1 millisecond'
       WHERE id = $1 AND lease_token = $2 RETURNING id`,
      [row.id, token, leaseMs],
    );
    return renewed.length > 0;
  }

  /**
   * Writes the outcome of a step and gives the lease back. A reconcile request that arrived during the step makes the
   * row due at once; a removal that arrived keeps its phase and endpoints, another revision that is wanted by now hasn't
   * failed. A step whose lease was lost writes nothing.
   */
  async record(claim: Claim, outcome: Outcome): Promise<void> {
    await this.records.add({ claim, outcome });
  }

  private async recordAll(steps: readonly Step[]): Promise<undefined[]> {
    const written = steps.map(({ claim: { row, token }, outcome }) => {
      const { id, reconcileRequests, activeRevision, generation } = row;
      return { ...outcome, id, token, reconcileRequests, activeRevision, generation };
    });
    // It makes an upload stay that its caller is told of next.
    const keeps = steps.some(
      ({ claim: { row }, outcome }) => outcome.takesOver || (row.provisionalUntil !== null && !outcome.provisional),
    );
    await this.database.query(
      `WITH ${unhurried('$2')}, step AS (
         SELECT * FROM jsonb_to_recordset($1::jsonb) AS step (id text, token uuid, phase text, reason jsonb,
           "lastFault" jsonb, endpoints jsonb, "primaryReplica" text, "hostPort" integer, "observedGeneration" integer,
           provisional boolean, failures integer, "backoffMs" float8, "nextMs" float8, "reconcileRequests" integer,
           abandon boolean, "takesOver" boolean, "activeRevision" integer, generation integer)
       ), held AS (
         SELECT id, "takesOver" AND active_revision = "activeRevision" AS "takesOver", active_revision,
           active_revision <> "activeRevision" OR (functions.generation <> step.generation
             AND functions.phase = 'creating' AND functions.failures = 0 AND not_before IS NULL) AS "isOutdated"
         FROM functions JOIN step USING (id) WHERE lease_token = token ${IN_LOCK_ORDER} OF functions
       ), taken_over AS (
         UPDATE revisions SET state = 'ready', error = NULL, served_at = now() FROM held
         WHERE held."takesOver" AND function_id = held.id AND number = active_revision)
       UPDATE functions SET
         phase = CASE WHEN deleted_at IS NOT NULL OR abandon THEN 'deleting' WHEN held."isOutdated" THEN functions.phase
           ELSE step.phase END,
         phase_since = CASE WHEN functions.phase = step.phase AND NOT abandon OR deleted_at IS NOT NULL
           THEN phase_since ELSE now() END,
         deleted_at = CASE WHEN abandon THEN COALESCE(deleted_at, now()) ELSE deleted_at END,
         endpoints = CASE WHEN deleted_at IS NOT NULL THEN '[]' ELSE step.endpoints END,
         reason = CASE WHEN held."isOutdated" THEN functions.reason ELSE step.reason END, last_fault = "lastFault", primary_replica = "primaryReplica", host_port = "hostPort",
         observed_generation = "observedGeneration", provisional_until = CASE WHEN provisional THEN provisional_until END,
         failures = CASE WHEN held."isOutdated" THEN functions.failures ELSE step.failures END, postponed = 0,
         not_before = CASE WHEN held."isOutdated" THEN functions.not_before
           ELSE now() + "backoffMs" * interval '1 millisecond' END,
         reconcile_at = CASE WHEN wakes <> "reconcileRequests" THEN now()
           ELSE now() + "nextMs" * interval '1 millisecond' END,
         serving_revision = CASE WHEN held."takesOver" THEN NULL ELSE serving_revision END,
         rollout_until = CASE WHEN held."takesOver" THEN NULL ELSE rollout_until END,
         lease_token = NULL, lease_until = NULL
       FROM step JOIN held USING (id) WHERE functions.id = step.id AND lease_token = token AND ${IS_UNHURRIED}`,
      [JSON.stringify(written), keeps],
    );
    return steps.map(() => undefined);
  }

  /**
   * After a step that couldn't be made: due again later, or at once if a request arrived. What was seen stays.
   */
  async postpone({ row, token }: Claim, fault: StoredFault, nextMs: number): Promise<void> {
    await this.database.query(
      `UPDATE functions SET reason = $3, postponed = postponed + 1, lease_token = NULL, lease_until = NULL,
         reconcile_at = CASE WHEN wakes <> $5 THEN now() ELSE now() + $4 * interval '1 millisecond' END
       WHERE id = $1 AND lease_token = $2`,
      [row.id, token, fault, nextMs, row.reconcileRequests],
    );
  }

  /** Gives the lease back without an outcome; the row is due for other managers. */
  async release({ row, token }: { readonly row: Pick<FunctionEntity, 'id'>; readonly token: string }): Promise<void> {
    await this.database.query(
      `UPDATE functions SET lease_token = NULL, lease_until = NULL, wakes = wakes + 1
       WHERE id = $1 AND lease_token = $2`,
      [row.id, token],
    );
  }

  /**
   * Deletes the row when the engine has nothing left of it, unless workers of its revisions are still there: the row is
   * due again then, once the last of those is gone. Resolves with the milliseconds until that, or null.
   */
  async purge({ row, token }: Claim): Promise<number | null> {
    const { id, workloadOf, reconcileRequests } = row;
    const [purged] = await this.database.query<{ id: FunctionId }>(
      `DELETE FROM functions WHERE id = $1 AND lease_token = $2
         AND NOT EXISTS (SELECT FROM functions AS workload WHERE workload.workload_of = $1) RETURNING id`,
      [id, token],
    );
    // A statement of its own: together they would lock rows in another order than all others do.
    if (purged !== undefined && workloadOf !== null) {
      await this.database.query(`UPDATE functions SET ${DUE_NOW} WHERE id = $1 AND deleted_at IS NOT NULL`, [
        workloadOf,
      ]);
    }
    if (purged !== undefined) return null;
    await this.database.query(
      `UPDATE functions SET lease_token = NULL, lease_until = NULL,
         reconcile_at = CASE WHEN wakes <> $3 THEN now() ELSE now() + $4 * interval '1 millisecond' END
       WHERE id = $1 AND lease_token = $2`,
      [id, token, reconcileRequests, WORKLOADS_WAIT_MS],
    );
    return WORKLOADS_WAIT_MS;
  }

  /** Runs `work` on one manager at a time; false: another one is running it. */
  async exclusively(lock: number, work: () => Promise<void>): Promise<boolean> {
    return this.database.transaction(async (ask) => {
      const [row] = await ask<{ taken: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS taken', [lock]);
      if (row?.taken === true) await work();
      return row?.taken === true;
    });
  }
}
