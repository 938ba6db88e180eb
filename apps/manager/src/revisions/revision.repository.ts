import { type Ask, Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { getMetadataArgsStorage } from 'typeorm';
import { ALL_COLUMNS, type FunctionEntity, isDivided, newestServing, servingOf } from '../functions/function.entity.js';
import { FunctionLock, type LockedFunction } from '../functions/function-lock.js';
import { areNewest, DELETED, type Lease, type Revision } from '../functions/function.repository.js';
import type { Written } from '../functions/inline-reconciler.js';
import { isLive, workersIn } from '../traffic/traffic.js';
import { addWorkload } from '../traffic/workloads.js';
import { RevisionInUse, RevisionNotFound, RevisionSuperseded } from './errors.js';
import { type FunctionSpec, type Resolve, type Resolved, SETTING_NAMES, specOf } from './function-spec.js';
import { RevisionEntity, type RevisionError, type RevisionState } from './revision.entity.js';

export type RevisionRow = Omit<RevisionEntity, 'code'>;

/** A revision as its maker sends it: what is undefined is as in the one that has the calls. */
export interface NewRevision {
  readonly functionName: string | undefined;
  readonly code: { readonly bytes: Buffer; readonly sha256: string } | undefined;
  readonly message: string;
  readonly createdBy: string | null;
  /** Unset: as before. */
  readonly layer?: RevisionLayer;
}

/** The packages of a revision. `build`: they are being built, by that key. `named`: as before, if a setting named them. */
export type RevisionLayer =
  | { readonly kind: 'former' | 'named' | 'none' }
  | { readonly kind: 'ready'; readonly digest: string }
  | { readonly kind: 'build'; readonly key: string };

/** A manager that is gone is missed this soon, and one whose database is away isn't for as long. */
export const AWAITED_MS = 30_000;

/** Whether a revision is one of {@link usedBy}. */
const IS_USED = `(number IN (active_revision, COALESCE(serving_revision, active_revision))
  OR jsonb_path_exists(jsonb_build_array(traffic, CASE WHEN wanted_traffic->'fault' = 'null' THEN wanted_traffic END), '$[*].targets[*] ? (@.revision == $n)',
    jsonb_build_object('n', number))
  OR EXISTS (SELECT FROM functions AS workload WHERE workload_of = function_id AND workload.active_revision = number))`;
const IS_EXPIRED = `state <> 'pending' AND unused_since < now() - $1::float8 * interval '1 millisecond'
  AND COALESCE(served_at, revisions.created_at) < now() - $1::float8 * interval '1 millisecond'`;

/** How a revision takes over. */
export interface Paces {
  readonly rolloutMs: number;
  /** Of the manager that makes the step of it at once. */
  readonly lease?: Lease | undefined;
}

/** How many revisions of a function are kept beside those in use. */
interface Keeping {
  readonly kept: number;
}

interface Asked {
  readonly versions?: readonly number[] | undefined;
}

/** What a step needs of a revision. */
const STEP_COLUMNS = 'number, function_name AS "functionName", code, code_sha256 AS "codeSha256", layer';
/** It waits for its packages. */
const IS_BUILT = `function_id = $1 AND state = 'pending' AND layer_build IS NOT NULL AND layer IS NULL`;
const CAN_LEASE = `(lease_until IS NULL OR lease_until < now())`;

const COLUMNS = getMetadataArgsStorage()
  .filterColumns(RevisionEntity)
  .filter(({ propertyName }) => propertyName !== 'code')
  .map(({ propertyName, options }) => `${options.name ?? propertyName} AS "${propertyName}"`)
  .join(', ');

/** All SQL about revisions but their first one, which comes with its function. */
@Injectable()
export class RevisionRepository {
  constructor(
    private readonly database: Database,
    private readonly lock: FunctionLock,
  ) {}

  /** The newest first. */
  list(id: FunctionId): Promise<RevisionRow[]> {
    return this.database.query<RevisionRow>(
      `SELECT ${COLUMNS} FROM revisions WHERE function_id = $1 ORDER BY number DESC`,
      [id],
    );
  }

  async find(id: FunctionId, number: number): Promise<RevisionRow | null> {
    const sql = `SELECT ${COLUMNS} FROM revisions WHERE function_id = $1 AND number = $2`;
    const [row] = await this.database.query<RevisionRow>(sql, [id, number]);
    return row ?? null;
  }

  /**
   * Writes one more revision, which is to take over. One that was on its way is superseded. Throws
   * {@link FunctionNotFound}, {@link VersionOutdated}, or what `resolve` throws for its settings. One whose packages are
   * being built waits: {@link take} has it take over.
   */
  add(
    id: FunctionId,
    made: NewRevision,
    resolve: Resolve,
    paces: Asked & Paces & Keeping,
  ): Promise<{ readonly number: number } & Partial<Written>> {
    return this.lock.changing(id, paces.versions, async ({ row, workloads, ask }) => {
      const serving = newestServing(row);
      const resolved = resolve(await this.settingsOf(row, serving, ask));
      const named = namedIn(resolved);
      const { functionName, code, message, createdBy, layer = { kind: 'former' } } = made;
      const [added] = await ask<Revision & { code: Buffer | null; others: number }>(
        `INSERT INTO revisions (function_id, number, function_name, code, code_sha256, settings, message, created_by, state,
           layer, layer_build, awaited_until)
         SELECT $1, GREATEST($9, (SELECT max(number) FROM revisions WHERE function_id = $1)) + 1,
           COALESCE($3, function_name),
           COALESCE($4, code), COALESCE($5, code_sha256), $6, $7, $8, 'pending',
           CASE WHEN $10::text IS NOT NULL THEN $10 WHEN $11 = 'former' OR $11 = 'named' AND settings ? 'requirements' THEN layer END,
           $12, CASE WHEN $12::text IS NOT NULL THEN now() + $13::float8 * interval '1 millisecond' END
         FROM revisions WHERE function_id = $1 AND number = $2
         RETURNING number, function_name AS "functionName", CASE WHEN $4 IS NULL THEN code END AS code,
           code_sha256 AS "codeSha256", layer,
           (SELECT count(*) FROM revisions WHERE function_id = $1)::integer AS others`,
        [
          id,
          serving,
          functionName ?? null,
          code?.bytes ?? null,
          code?.sha256 ?? null,
          named,
          message,
          createdBy,
          row.lastRevision,
          layer.kind === 'ready' ? layer.digest : null,
          layer.kind,
          layer.kind === 'build' ? layer.key : null,
          AWAITED_MS,
        ],
      );
      const { others, ...revision } = added as Revision & { others: number };
      const { number } = revision;
      let written: Written | undefined;
      if (layer.kind === 'build') {
        await ask('UPDATE functions SET last_revision = GREATEST(last_revision, $2) WHERE id = $1', [id, number]);
      } else {
        const whole = { ...revision, code: code?.bytes ?? revision.code };
        written = await this.bringUp({ row, workloads, ask }, whole, resolved, paces);
      }
      if (others + 1 > paces.kept) await this.prune({ row, workloads, ask }, number, paces.kept);
      return { number, ...written };
    });
  }

  /** Says that somebody goes on waiting for its packages. */
  async awaits(id: FunctionId, number: number): Promise<void> {
    await this.database.query(
      `UPDATE revisions SET awaited_until = now() + $3::float8 * interval '1 millisecond'
       WHERE function_id = $1 AND number = $2 AND state = 'pending'`,
      [id, number, AWAITED_MS],
    );
  }

  /** Revisions for whose packages nobody waits any more can't take over; how many there were. */
  async giveUpAbandoned(): Promise<number> {
    const rows = await this.database.query(
      `UPDATE revisions SET state = 'failed', error = $1
       WHERE state = 'pending' AND layer_build IS NOT NULL AND layer IS NULL
         AND COALESCE(awaited_until, created_at + interval '20 minutes') < now()
         AND NOT EXISTS (SELECT FROM functions
           WHERE (id = function_id OR workload_of = function_id) AND active_revision = number)
       RETURNING number`,
      [{ code: 'build_unavailable', message: 'The manager that waited for its packages has ended.' }],
    );
    return rows.length;
  }

  /**
   * Has a revision take over whose packages are there now, unless a newer one has come before. Throws
   * {@link RevisionSuperseded} too, where it is no longer waited for, or {@link RevisionNotFound}.
   */
  take(
    id: FunctionId,
    number: number,
    digest: string,
    resolve: Resolve,
    paces: Paces & Keeping,
  ): Promise<Written | undefined> {
    return this.lock.changing(id, undefined, async (locked) => {
      const { row, ask } = locked;
      const [revision] = await ask<Revision>(
        `UPDATE revisions SET layer = $3 WHERE function_id = $1 AND number = $2 AND state = 'pending'
         RETURNING ${STEP_COLUMNS}`,
        [id, number, digest],
      );
      if (revision === undefined) {
        const isThere = await this.exists(id, number, ask);
        throw isThere ? new RevisionSuperseded(id, number, row.activeRevision) : new RevisionNotFound(id, number);
      }
      if (Math.max(row.activeRevision, newestServing(row)) > number) {
        await ask(`UPDATE revisions SET state = 'superseded' WHERE function_id = $1 AND number = $2`, [id, number]);
        return undefined;
      }
      const resolved = resolve(await this.settingsOf(row, number, ask));
      const written = await this.bringUp(locked, revision, resolved, paces);
      await this.prune(locked, number, paces.kept);
      return written;
    });
  }

  /**
   * Has a former revision take over again; undefined: the last one that had the calls. Resolves with undefined where
   * the calls are divided: then none takes over. Throws {@link RevisionNotFound} too.
   */
  rollBack(
    id: FunctionId,
    to: number | undefined,
    resolve: Resolve,
    { versions, ...paces }: Asked & Paces,
  ): Promise<({ readonly number: number; readonly servedAt: Date | null } & Partial<Written>) | undefined> {
    return this.lock.changing(id, versions, async ({ row, ask }) => {
      if (row.traffic !== null || isDivided(row)) return undefined;
      const serving = servingOf(row);
      // Of one that is on its way the last that had the calls is the one that still has them.
      const wanted = to ?? (row.servingRevision === null ? null : serving);
      const [chosen] = await ask<{ number: number; servedAt: Date | null; areBuilt: boolean }>(
        `SELECT number, served_at AS "servedAt", EXISTS (SELECT FROM revisions WHERE ${IS_BUILT}) AS "areBuilt"
         FROM revisions WHERE function_id = $1 AND CASE WHEN $2::integer IS NULL
           THEN number <> $3 AND (state = 'ready' OR state <> 'failed' AND served_at IS NOT NULL) ELSE number = $2 END
           AND (layer_build IS NULL OR layer IS NOT NULL)
         ORDER BY served_at DESC NULLS LAST, number DESC LIMIT 1`,
        [id, wanted, serving],
      );
      if (chosen === undefined) throw await this.unusable(id, to, ask);
      const { areBuilt, ...found } = chosen;
      const { number } = found;
      // It has the calls, and nothing is on its way to take them. In error it is tried again at once.
      if (number === row.activeRevision && row.servingRevision === null && row.phase !== 'error') return found;
      const resolved = resolve(await this.settingsOf(row, number, ask));
      const revision = number === serving ? undefined : await this.makePending(id, number, ask);
      const activated = await this.activate(row, number, serving, resolved, revision && paces, ask);
      if (areBuilt) await this.supersedeBuilds(id, number, ask);
      return { ...found, row: activated, ...(revision && { revision }) };
    });
  }

  /** One that failed, or had the calls before, gets another try. */
  async makePending(id: FunctionId, number: number, ask: Ask): Promise<Revision | undefined> {
    const sql = `UPDATE revisions SET state = 'pending', error = NULL WHERE function_id = $1 AND number = $2
      RETURNING ${STEP_COLUMNS}`;
    return (await ask<Revision>(sql, [id, number]))[0];
  }

  /** Why a revision can't be gone back to: there is none, or it has no packages. */
  async unusable(id: FunctionId, number: number | undefined, ask: Ask): Promise<RevisionNotFound> {
    return new RevisionNotFound(id, number, number !== undefined && (await this.exists(id, number, ask)));
  }

  private async exists(id: FunctionId, number: number, ask: Ask): Promise<boolean> {
    const sql = 'SELECT number FROM revisions WHERE function_id = $1 AND number = $2';
    return (await ask(sql, [id, number])).length > 0;
  }

  /** Whoever goes back doesn't want what is still waiting for its packages. */
  private async supersedeBuilds(id: FunctionId, number: number, ask: Ask): Promise<void> {
    await ask(`UPDATE revisions SET state = 'superseded' WHERE ${IS_BUILT} AND number <> $2`, [id, number]);
  }

  /** Gives up a revision that could not take over: the one that has the calls is wanted again. */
  async revert(id: FunctionId, number: number, error: RevisionError, resolve: Resolve): Promise<void> {
    await this.lock.with(id, async ({ row, ask }) => {
      if (row.servingRevision === null || row.activeRevision !== number) return;
      await this.note(id, number, 'failed', error, ask);
      const resolved = resolve(await this.settingsOf(row, row.servingRevision, ask));
      await this.activate(row, row.servingRevision, row.servingRevision, resolved, undefined, ask);
      if (isLive(row.wantedTraffic) && row.wantedTraffic.isAuto) {
        await ask('UPDATE functions SET wanted_traffic = $2 WHERE id = $1', [
          id,
          { ...row.wantedTraffic, fault: error },
        ]);
      }
    });
  }

  /**
   * Writes down why a revision that no worker of the function itself was to run can't serve, with what its workers say.
   * Resolves with that; undefined: it was ready after all, or has failed for another reason.
   */
  async fail(
    id: FunctionId,
    number: number,
    { code, message: why }: RevisionError,
  ): Promise<RevisionError | undefined> {
    return this.lock.with(id, async ({ row, workloads, ask }) => {
      // What traffic waits for by now has time of its own.
      const needed = isLive(row.wantedTraffic) ? workersIn(row.wantedTraffic) : [];
      const made = workloads.filter((one) => one.activeRevision === number && !needed.includes(one.id));
      if (made.length === 0 && workloads.some(({ activeRevision }) => activeRevision === number)) return undefined;
      const { message, detail } = made.find(({ reason }) => reason !== null)?.reason ?? { message: '' };
      const error: RevisionError = {
        code,
        message: `${why} ${message}`.trim(),
        ...(detail !== undefined && { detail }),
      };
      const sql = `UPDATE revisions SET state = 'failed', error = $3
        WHERE function_id = $1 AND number = $2 AND state = 'pending' RETURNING number`;
      if ((await ask(sql, [id, number, error])).length === 0) return undefined;
      await ask(`UPDATE functions SET ${DELETED} WHERE id = ANY ($1)`, [made.map((workload) => workload.id)]);
      return error;
    });
  }

  /** A revision that comes while all calls are about to be the function's own workers' is the one to have them. */
  private async followAuto(row: FunctionEntity, number: number, withinMs: number, ask: Ask): Promise<void> {
    const { id, wantedTraffic: wanted } = row;
    if (!isLive(wanted)) return;
    const targets = wanted.targets.map((target) => ({ ...target, revision: number }));
    const until = new Date(Date.now() + withinMs).toISOString();
    await ask('UPDATE functions SET wanted_traffic = $2 WHERE id = $1', [id, { ...wanted, targets, until }]);
  }

  /** Throws {@link RevisionNotFound}, or {@link RevisionInUse} while it has the calls or is on its way to them. */
  async remove(id: FunctionId, number: number): Promise<void> {
    await this.lock.changing(id, undefined, async ({ row, workloads, ask }) => {
      if (usedBy({ row, workloads }).has(number)) throw new RevisionInUse(id, number);
      const sql = 'DELETE FROM revisions WHERE function_id = $1 AND number = $2 RETURNING number';
      if ((await ask(sql, [id, number])).length === 0) throw new RevisionNotFound(id, number);
    });
  }

  /** What a revision names, kept with it if it comes from a manager that kept it in the function's row only. */
  async settingsOf(row: FunctionEntity, number: number, ask: Ask): Promise<Partial<FunctionSpec>> {
    const ofRow = namedIn({ said: row.said, spec: specOf(row) });
    const [revision] = await ask<{ settings: Partial<FunctionSpec> }>(
      `WITH kept AS (
         UPDATE revisions SET settings = $3 WHERE function_id = $1 AND number = $2 AND settings IS NULL RETURNING settings
       ) SELECT settings FROM kept
       UNION ALL SELECT settings FROM revisions WHERE function_id = $1 AND number = $2 AND settings IS NOT NULL`,
      [row.id, number, ofRow],
    );
    return revision?.settings ?? ofRow;
  }

  /**
   * Has the function's own workers get a revision. Resolves with the row, and the lease in it where it could be had.
   *
   * @param paces of its taking over; unset: it needn't, as it has the calls
   */
  async activate(
    row: FunctionEntity,
    number: number,
    serving: number,
    { said, spec }: Resolved,
    paces: Paces | undefined,
    ask: Ask,
  ): Promise<FunctionEntity> {
    const { id } = row;
    if (row.servingRevision !== null && row.activeRevision !== number) {
      await ask(
        `UPDATE revisions SET state = 'superseded' WHERE function_id = $1 AND number = $2 AND state = 'pending'`,
        [id, row.activeRevision],
      );
    }
    const settings = SETTING_NAMES.map((name, index) => `${name} = $${9 + index}`);
    const canLease = `$6::uuid IS NOT NULL AND ${CAN_LEASE} AND ${areNewest('$8')}`;
    // It needs a replica to show that it can serve.
    const [activated] = await ask<FunctionEntity>(
      `UPDATE functions SET active_revision = $2, serving_revision = NULLIF($3::integer, $2::integer),
         rollout_until = now() + $4::float8 * interval '1 millisecond', said = $5, ${settings.join(', ')},
         former_timeout_ms = GREATEST(timeout_ms, CASE WHEN rollout_until IS NOT NULL THEN former_timeout_ms END),
         last_revision = GREATEST(last_revision, $2::integer),
         function_name = (SELECT function_name FROM revisions WHERE function_id = $1 AND number = $2),
         replicas = GREATEST(replicas, $${9 + SETTING_NAMES.indexOf('min_replicas')}::integer,
           CASE WHEN $4::float8 IS NULL THEN 0 ELSE 1 END),
         phase = CASE WHEN phase IN ('error', 'stopped') OR (phase = 'idle' AND $4::float8 IS NOT NULL) THEN 'creating'
           ELSE phase END,
         generation = generation + 1, version = version + 1, failures = 0, postponed = 0, reason = NULL,
         last_used_at = now(), reconcile_at = now(), not_before = NULL, wakes = wakes + 1,
         lease_token = CASE WHEN ${canLease} THEN $6::uuid ELSE lease_token END,
         lease_until = CASE WHEN ${canLease} THEN clock_timestamp() + $7::float8 * interval '1 millisecond'
           ELSE lease_until END
       WHERE id = $1 RETURNING ${ALL_COLUMNS}`,
      [
        id,
        number,
        serving,
        paces?.rolloutMs ?? null,
        said,
        paces?.lease?.token ?? null,
        paces?.lease?.ms ?? null,
        paces?.lease?.settingsSha256 ?? null,
        ...SETTING_NAMES.map((name) => spec[name]),
      ],
    );
    return activated as FunctionEntity;
  }

  /** Has a revision take over, or gives it workers beside those of others. */
  private async bringUp(
    { row, ask }: LockedFunction,
    revision: Revision,
    resolved: Resolved,
    paces: Paces,
  ): Promise<Written | undefined> {
    const { number } = revision;
    const { rolloutMs } = paces;
    if (isDivided(row)) {
      await addWorkload(row, { number, resolved, replicas: 1, withinMs: rolloutMs }, ask);
      return undefined;
    }
    const activated = await this.activate(row, number, servingOf(row), resolved, paces, ask);
    await this.followAuto(row, number, rolloutMs, ask);
    return { row: activated, revision };
  }

  /** The oldest that nobody needs go. */
  private async prune({ row, workloads, ask }: LockedFunction, number: number, kept: number): Promise<void> {
    await ask(
      `DELETE FROM revisions WHERE function_id = $1 AND number <> ALL ($2) AND number <= (
         SELECT number FROM revisions WHERE function_id = $1 ORDER BY number DESC OFFSET $3 LIMIT 1)`,
      [row.id, [number, ...usedBy({ row, workloads })], kept],
    );
  }

  /** Functions with revisions that have been without calls for so long, as far as this and former looks have seen. */
  async withExpired(retentionMs: number): Promise<FunctionId[]> {
    await this.database.query(
      `UPDATE revisions SET unused_since = CASE WHEN unused_since IS NULL THEN now() END FROM functions
       WHERE functions.id = function_id AND (unused_since IS NOT NULL) = ${IS_USED}`,
    );
    const rows = await this.database.query<{ id: FunctionId }>(
      `SELECT DISTINCT function_id AS id FROM revisions WHERE ${IS_EXPIRED}`,
      [retentionMs],
    );
    return rows.map(({ id }) => id);
  }

  /** Resolves with the numbers of those that are gone. */
  async removeExpired(id: FunctionId, retentionMs: number): Promise<number[]> {
    const gone = await this.lock.with(id, ({ row, workloads, ask }) =>
      ask<{ number: number }>(
        `DELETE FROM revisions WHERE ${IS_EXPIRED} AND function_id = $2 AND number <> ALL ($3) RETURNING number`,
        [retentionMs, id, [...usedBy({ row, workloads })]],
      ),
    );
    return gone?.map(({ number }) => number) ?? [];
  }

  async note(id: FunctionId, number: number, state: RevisionState, error: RevisionError, ask: Ask) {
    const sql = 'UPDATE revisions SET state = $3, error = $4 WHERE function_id = $1 AND number = $2';
    await ask(sql, [id, number, state, error]);
  }
}

/** The revisions that have workers or calls, or are about to have them. */
function usedBy({ row, workloads }: Omit<LockedFunction, 'ask'>): Set<number> {
  const { activeRevision, traffic, wantedTraffic } = row;
  const targets = [...(traffic?.targets ?? []), ...(isLive(wantedTraffic) ? wantedTraffic.targets : [])];
  return new Set([
    activeRevision,
    servingOf(row),
    ...targets.map(({ revision }) => revision),
    ...workloads.map((workload) => workload.activeRevision),
  ]);
}

function namedIn({ said, spec }: Resolved): Partial<FunctionSpec> {
  return Object.fromEntries(SETTING_NAMES.filter((name) => said.includes(name)).map((name) => [name, spec[name]]));
}
