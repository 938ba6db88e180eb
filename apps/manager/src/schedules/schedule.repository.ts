import type { SchedulesConfig } from '#libs/config/config.js';
import { SCHEDULES_CONFIG } from '#libs/config/config.module.js';
import { type Ask, Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable } from '@nestjs/common';
import { randomUUIDv7 } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { FunctionNotFound } from '../functions/errors.js';
import { type FunctionEntity, newestServing } from '../functions/function.entity.js';
import type { AttemptError, Status } from '../invocations/invocation.js';
import { InvocationRepository, type NewInvocation } from '../invocations/invocation.repository.js';
import { ScheduleOutdated, TooManySchedules } from './errors.js';
import {
  decide,
  type Decision,
  isCalendar,
  type Missed,
  nextAfter,
  ON_TIME_MS,
  type Schedule,
  type ScheduleSpec,
  timingOf,
} from './schedule.js';

/** What must be there for a change to happen. */
export interface Precondition {
  /** One of these versions; undefined: any. */
  readonly versions: readonly number[] | undefined;
  /** Nothing is made anew. */
  readonly mustExist: boolean;
}

/** A time that a call was made for, and what became of that. */
export interface Firing {
  readonly scheduledFor: Date;
  readonly firedAt: Date;
  readonly invocationId: string;
  /** Null: the call was removed before anybody had seen its end. */
  readonly status: Status | null;
  readonly startedAt: Date | null;
  readonly endedAt: Date | null;
  readonly error: AttemptError | null;
}

/** What a change of a schedule leads to. */
export interface Written {
  readonly row: Schedule;
  readonly outcome: 'made' | 'changed' | 'same';
}

/** What became of a schedule that was due. */
export interface Fired {
  readonly functionId: FunctionId;
  readonly name: string;
  /** The call that was made, and how long after it was due; undefined: none was. */
  readonly call: { readonly id: string; readonly lagMs: number } | undefined;
  readonly missed: readonly Missed[];
  /** It rests with its function. */
  readonly isResting: boolean;
  /** Why nothing could be decided. */
  readonly fault: Error | undefined;
}

/** A schedule that rests from now on because its calls have failed. */
export type Paused = Pick<Schedule, 'functionId' | 'name' | 'failures'>;

type Key = Pick<Schedule, 'functionId' | 'name'>;

interface DueRow extends Schedule {
  readonly now: Date;
  readonly isCallable: boolean;
  readonly activeRevision: number;
  readonly servingRevision: number | null;
  readonly traffic: FunctionEntity['traffic'];
}

/** Everybody is told of a change, for it may be the next one that is due. */
const CHANGED = 'faas_schedules';
/** So that two new ones at once can't pass a limit. */
const COUNT_LOCK = 7_013_283;
/** What waits for the end of an earlier call is looked at ever less often, should nobody tell of that end. */
const HELD_MS = { least: 1_000, most: 30_000 };
/** Another manager may know the time zone of one that this one can't read, and isn't late after that. */
const UNREADABLE_MS = ON_TIME_MS / 2;
/** Of each schedule, beside those whose calls aren't over. */
const FIRINGS_KEPT = 100;
const AT_ONCE = 50;
const SETTLED_AT_ONCE = 100;

const COLUMNS = `schedules.function_id AS "functionId", schedules.name, schedules.version, cron,
  interval_ms::float8 AS "intervalMs", timezone, body, payload_bytes AS "payloadBytes", overlap,
  catch_up_ms::float8 AS "catchUpMs", jitter_ms::float8 AS "jitterMs", pause_after_failures AS "pauseAfterFailures",
  schedules.enabled, priority, retry, max_age_ms::float8 AS "maxAgeMs", choice, callback_url AS "callbackUrl",
  callback_format AS "callbackFormat", anchor_at AS "anchorAt", next_at AS "nextAt", due_at AS "dueAt",
  fired_for AS "firedFor", is_held AS "isHeld", is_resting AS "isResting",
  paused_at AS "pausedAt", schedules.failures, fired::float8 AS fired, missed::float8 AS missed,
  last_missed_for AS "lastMissedFor", last_missed_reason AS "lastMissedReason", schedules.created_at AS "createdAt",
  schedules.updated_at AS "updatedAt", updated_by AS "updatedBy"`;

const MAY_FIRE = 'schedules.enabled AND paused_at IS NULL';
const IS_CALLABLE = 'functions.enabled AND functions.deleted_at IS NULL';
const ENDED = `invocations.status NOT IN ('waiting', 'running')`;

/** All SQL about schedules. Only the database's clock says what is due. */
@Injectable()
export class ScheduleRepository {
  static readonly channel = CHANGED;

  constructor(
    private readonly database: Database,
    private readonly invocations: InvocationRepository,
    @Inject(SCHEDULES_CONFIG) private readonly config: SchedulesConfig,
  ) {}

  /** In the order of their names, after this one. */
  list(functionId: FunctionId, after: string, limit: number): Promise<Schedule[]> {
    return this.database.query<Schedule>(
      `SELECT ${COLUMNS} FROM schedules WHERE function_id = $1 AND schedules.name > $2 ORDER BY schedules.name LIMIT $3`,
      [functionId, after, limit],
    );
  }

  async find(functionId: FunctionId, name: string): Promise<Schedule | null> {
    const [row] = await this.database.query<Schedule>(
      `SELECT ${COLUMNS} FROM schedules WHERE function_id = $1 AND schedules.name = $2`,
      [functionId, name],
    );
    return row ?? null;
  }

  /** The newest times that calls were made for. What their rows say goes before what was seen of them. */
  firings(functionId: FunctionId, name: string, most: number): Promise<Firing[]> {
    return this.database.query<Firing>(
      `SELECT firings.scheduled_for AS "scheduledFor", fired_at AS "firedAt", invocation_id AS "invocationId",
         COALESCE(invocations.status, firings.status) AS status, started_at AS "startedAt",
         CASE WHEN invocations.id IS NULL THEN firings.ended_at ELSE invocations.ended_at END AS "endedAt", error
       FROM (SELECT * FROM schedule_firings WHERE function_id = $1 AND schedule = $2
             ORDER BY scheduled_for DESC LIMIT $3) AS firings
         LEFT JOIN invocations ON invocations.id = invocation_id
       ORDER BY firings.scheduled_for DESC`,
      [functionId, name, most],
    );
  }

  /**
   * Makes a schedule, or changes it. One that goes on firing at the same times keeps the next of them; any other begins
   * anew, with its failures forgotten. Throws {@link ScheduleOutdated} where none of `versions` is there.
   */
  write(
    { functionId, name }: Key,
    spec: ScheduleSpec,
    { versions, mustExist }: Precondition,
    by: string | null,
  ): Promise<Written> {
    return this.database.transaction(async (ask) => {
      const found = await this.lockedOrRoom({ functionId, name }, ask);
      if (found === undefined ? mustExist : versions?.includes(found.version) === false) {
        throw new ScheduleOutdated(name, found?.version);
      }
      if (found === undefined) await this.checkRoom(functionId, ask);
      else if (found.pausedAt === null && isDeepStrictEqual(specOf(found), spec))
        return { row: found, outcome: 'same' };
      const [clock] = await ask<{ now: Date }>(`SELECT date_trunc('milliseconds', now()) AS now`);
      const { now } = clock as { now: Date };
      const isSameTiming =
        found?.cron === spec.cron && found.intervalMs === spec.intervalMs && found.timezone === spec.timezone;
      const anchorAt = found !== undefined && isSameTiming ? found.anchorAt : now;
      const goesOn = isSameTiming && found.nextAt !== null && spec.enabled;
      const timing = timingOf({ ...spec, anchorAt });
      const anew = spec.enabled ? nextAfter(timing, laterOf(now, found?.firedFor)) : null;
      const nextAt = goesOn ? found.nextAt : anew;
      const isSameMoment = goesOn && !found.isHeld && found.jitterMs === spec.jitterMs;
      const [row] = await ask<Schedule>(
        `INSERT INTO schedules (function_id, name, cron, interval_ms, timezone, body, payload_bytes, overlap, catch_up_ms,
           jitter_ms, pause_after_failures, enabled, priority, retry, max_age_ms, choice, callback_url, anchor_at, next_at,
           due_at, updated_by, callback_format)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $23)
         ON CONFLICT (function_id, name) DO UPDATE SET version = schedules.version + 1, cron = EXCLUDED.cron,
           interval_ms = EXCLUDED.interval_ms, timezone = EXCLUDED.timezone, body = EXCLUDED.body,
           payload_bytes = EXCLUDED.payload_bytes, overlap = EXCLUDED.overlap, catch_up_ms = EXCLUDED.catch_up_ms,
           jitter_ms = EXCLUDED.jitter_ms, pause_after_failures = EXCLUDED.pause_after_failures,
           enabled = EXCLUDED.enabled, priority = EXCLUDED.priority, retry = EXCLUDED.retry,
           max_age_ms = EXCLUDED.max_age_ms, choice = EXCLUDED.choice, callback_url = EXCLUDED.callback_url,
           callback_format = EXCLUDED.callback_format,
           anchor_at = EXCLUDED.anchor_at, updated_at = now(), updated_by = EXCLUDED.updated_by,
           next_at = EXCLUDED.next_at, due_at = EXCLUDED.due_at,
           is_held = $22 AND schedules.is_held, is_resting = $22 AND schedules.is_resting, paused_at = NULL,
           failures = CASE WHEN $22 THEN schedules.failures ELSE 0 END,
           failures_since = CASE WHEN $22 THEN schedules.failures_since ELSE now() END
         RETURNING ${COLUMNS}`,
        [
          functionId,
          name,
          spec.cron,
          spec.intervalMs,
          spec.timezone,
          spec.body,
          spec.payloadBytes,
          spec.overlap,
          spec.catchUpMs,
          spec.jitterMs,
          spec.pauseAfterFailures,
          spec.enabled,
          spec.priority,
          JSON.stringify(spec.retry),
          spec.maxAgeMs,
          spec.choice && JSON.stringify(spec.choice),
          spec.callbackUrl,
          anchorAt,
          nextAt,
          isSameMoment ? found.dueAt : dueAt(nextAt, found?.isHeld === true ? 0 : spec.jitterMs),
          by,
          goesOn,
          spec.callbackFormat,
        ],
      );
      await ask('SELECT pg_notify($1, $2)', [CHANGED, '']);
      return { row: row as Schedule, outcome: found === undefined ? 'made' : 'changed' };
    });
  }

  /** False: there is none. Calls that it has made go on. */
  remove(key: Key, versions: readonly number[] | undefined): Promise<boolean> {
    return this.database.transaction(async (ask) => {
      const found = await this.locked(key, ask);
      if (found === undefined) return false;
      if (versions?.includes(found.version) === false) throw new ScheduleOutdated(key.name, found.version);
      await ask('DELETE FROM schedules WHERE function_id = $1 AND name = $2', [key.functionId, key.name]);
      return true;
    });
  }

  private async locked({ functionId, name }: Key, ask: Ask): Promise<Schedule | undefined> {
    const [row] = await ask<Schedule>(
      `SELECT ${COLUMNS} FROM schedules WHERE function_id = $1 AND schedules.name = $2 FOR UPDATE`,
      [functionId, name],
    );
    return row;
  }

  /** Of those who make the same one at once, one makes it, and the others find it. */
  private async lockedOrRoom(key: Key, ask: Ask): Promise<Schedule | undefined> {
    const found = await this.locked(key, ask);
    if (found !== undefined) return found;
    await ask('SELECT pg_advisory_xact_lock($1)', [COUNT_LOCK]);
    return this.locked(key, ask);
  }

  private async checkRoom(functionId: FunctionId, ask: Ask): Promise<void> {
    const present = await ask('SELECT FROM functions WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE', [functionId]);
    if (present.length === 0) throw new FunctionNotFound(functionId);
    const [counts] = await ask<{ own: number; all: number }>(
      `SELECT count(*) FILTER (WHERE function_id = $1)::integer AS own, count(*)::integer AS all FROM schedules`,
      [functionId],
    );
    const { perFunction, most } = this.config;
    if ((counts?.own ?? 0) >= perFunction) {
      throw new TooManySchedules(`Function ${functionId} has`, perFunction, 'SCHEDULES_PER_FUNCTION');
    }
    if ((counts?.all ?? 0) >= most) throw new TooManySchedules('There are', most, 'SCHEDULES_MOST');
  }

  /** In how many milliseconds the next one is due; null: none is. */
  async nearest(): Promise<number | null> {
    const [row] = await this.database.query<{ inMs: number | null }>(
      `SELECT (extract(epoch FROM min(due_at) - now()) * 1000)::float8 AS "inMs" FROM schedules WHERE ${MAY_FIRE}`,
    );
    return row?.inMs ?? null;
  }

  /**
   * Fires some of what is due, the longest waiting first. The time, its call and the next time are one transaction, and
   * the time is a key: whoever is killed, and however many managers there are, none has two calls. What another manager
   * is about to fire is left to it.
   */
  fire(): Promise<{ readonly fired: readonly Fired[]; readonly paused: readonly Paused[] }> {
    const work = async (ask: Ask) => {
      const due = await ask<DueRow>(
        `SELECT ${COLUMNS}, date_trunc('milliseconds', now()) AS now, ${IS_CALLABLE} AS "isCallable",
           active_revision AS "activeRevision", serving_revision AS "servingRevision", traffic
         FROM schedules JOIN functions ON functions.id = schedules.function_id
         WHERE due_at <= now() AND ${MAY_FIRE} ORDER BY due_at LIMIT ${AT_ONCE} FOR NO KEY UPDATE OF schedules SKIP LOCKED`,
      );
      if (due.length === 0) return { fired: [], paused: [] };
      // Only a statement that begins with the locks sees the calls of whoever had them before.
      const { paused } = await this.settleSome(due, ask);
      const open = await this.open(due, ask);
      const turns = due
        .filter((row) => !paused.some((one) => textOf(one) === textOf(row)))
        .map((row) => turnOf(row, open.has(textOf(row))));
      const made = await this.call(turns, ask);
      await this.moveOn(made, ask);
      return { fired: made.map(firedOf), paused };
    };
    return this.database.transaction(work, { isRepeatable: true });
  }

  /** Those of the schedules that have a call which waits or runs. */
  private async open(keys: readonly Key[], ask: Ask): Promise<Set<string>> {
    const rows = await ask<Key>(
      `SELECT DISTINCT firings.function_id AS "functionId", firings.schedule AS name
       FROM unnest($1::text[], $2::text[]) AS asked (function_id, name)
         JOIN schedule_firings AS firings ON firings.function_id = asked.function_id AND firings.schedule = asked.name
           AND firings.status IS NULL
         JOIN invocations ON invocations.id = firings.invocation_id AND NOT (${ENDED})`,
      columnsOf(keys),
    );
    return new Set(rows.map(textOf));
  }

  /** Makes the calls of those that fire. A time that has one already gets no other, and one that has no room is missed. */
  private async call(turns: readonly Turn[], ask: Ask): Promise<Turn[]> {
    const calls = turns.flatMap(({ row, decision: { fires } }) =>
      fires === null || (row.firedFor !== null && fires <= row.firedFor) ? [] : [callOf(row, fires)],
    );
    if (calls.length === 0) return [...turns];
    const fresh = await ask<{ id: string }>(
      `INSERT INTO schedule_firings (function_id, schedule, scheduled_for, invocation_id)
       SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::uuid[])
       ON CONFLICT (function_id, schedule, scheduled_for) DO NOTHING RETURNING invocation_id AS id`,
      [
        calls.map(({ functionId }) => functionId),
        calls.map(({ schedule }) => schedule),
        calls.map(({ scheduledFor }) => scheduledFor),
        calls.map(({ id }) => id),
      ],
    );
    const wanted = calls.filter(({ id }) => fresh.some((one) => one.id === id));
    const outcomes = wanted.length === 0 ? [] : await this.invocations.enqueueAll(wanted, ask);
    const refused = wanted.filter((_, index) => outcomes[index]?.outcome !== 'added');
    if (refused.length > 0) {
      await ask('DELETE FROM schedule_firings WHERE invocation_id = ANY ($1)', [refused.map(({ id }) => id)]);
    }
    return turns.map((turn) => {
      const call = calls.find((one) => textOf(turn.row) === textOf({ ...one, name: one.schedule }));
      if (call === undefined || !wanted.includes(call)) return turn;
      if (!refused.includes(call)) return { ...turn, callId: call.id };
      const { decision } = turn;
      // It goes with its function.
      if (outcomes[wanted.indexOf(call)]?.outcome === 'no_function') return turn;
      const missed: Missed = { reason: 'queue_full', count: 1, last: call.scheduledFor };
      return { ...turn, decision: { ...decision, missed: [...decision.missed, missed] } };
    });
  }

  private async moveOn(turns: readonly Turn[], ask: Ask): Promise<void> {
    const last = turns.map(({ decision }) => decision.missed.at(-1));
    await ask(
      `UPDATE schedules SET next_at = moved.next_at,
         due_at = COALESCE(now() + again_ms * interval '1 millisecond', moved.due_at),
         is_held = held, is_resting = rests, fired = schedules.fired + (moved.fired_for IS NOT NULL)::integer,
         fired_for = COALESCE(moved.fired_for, schedules.fired_for), missed = schedules.missed + moved.missed,
         last_missed_for = COALESCE(moved.missed_for, last_missed_for),
         last_missed_reason = COALESCE(moved.missed_reason, last_missed_reason)
       FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::boolean[], $6::boolean[],
         $7::timestamptz[], $8::bigint[], $9::timestamptz[], $10::text[], $11::integer[])
         AS moved (function_id, name, next_at, due_at, held, rests, fired_for, missed, missed_for, missed_reason, again_ms)
       WHERE schedules.function_id = moved.function_id AND schedules.name = moved.name`,
      [
        ...columnsOf(turns.map(({ row }) => row)),
        turns.map(({ decision }) => decision.nextAt),
        turns.map(({ row, decision }) => dueAt(decision.nextAt, row.jitterMs)),
        turns.map(({ decision }) => decision.isHeld),
        turns.map(({ row }) => !row.isCallable),
        turns.map(({ callId, decision: { fires } }) => (callId === undefined ? null : fires)),
        turns.map(({ decision }) => decision.missed.reduce((sum, { count }) => sum + count, 0)),
        last.map((one) => one?.last ?? null),
        last.map((one) => one?.reason ?? null),
        turns.map(againMs),
      ],
    );
    const fired = turns.filter(({ callId }) => callId !== undefined).map(({ row }) => row);
    if (fired.length === 0) return;
    await ask(
      `DELETE FROM schedule_firings AS old USING unnest($1::text[], $2::text[]) AS fired (function_id, name)
       WHERE old.function_id = fired.function_id AND old.schedule = fired.name
         AND old.scheduled_for < (SELECT scheduled_for FROM schedule_firings AS kept
           WHERE kept.function_id = fired.function_id AND kept.schedule = fired.name
           ORDER BY scheduled_for DESC OFFSET ${FIRINGS_KEPT - 1} LIMIT 1)
         AND (status IS NOT NULL OR NOT EXISTS (SELECT FROM invocations WHERE id = invocation_id))`,
      columnsOf(fired),
    );
  }

  /** Notes how calls have ended, and pauses schedules whose calls have failed too often in a row. Answers which. */
  async settle(): Promise<Paused[]> {
    const all: Paused[] = [];
    for (;;) {
      const { paused, settled } = await this.settleSome(undefined, (sql, values) => this.database.query(sql, values));
      all.push(...paused);
      if (settled === 0) return all;
    }
  }

  /** @param keys these only; undefined: some that have any */
  private async settleSome(
    keys: readonly Key[] | undefined,
    ask: Ask,
  ): Promise<{ readonly paused: readonly Paused[]; readonly settled: number }> {
    const failures = 'CASE WHEN has_succeeded THEN 0 ELSE schedules.failures END + tally.failures';
    const pauses = `(pause_after_failures > 0 AND paused_at IS NULL AND ${failures} >= pause_after_failures)`;
    const rows = await ask<Paused & { readonly isPaused: boolean }>(
      `WITH held AS MATERIALIZED (
         SELECT function_id, name, failures_since FROM schedules
         WHERE ${
           keys === undefined
             ? `(function_id, name) IN (SELECT firings.function_id, firings.schedule FROM schedule_firings AS firings
                  JOIN invocations ON invocations.id = invocation_id AND ${ENDED} WHERE firings.status IS NULL
                  LIMIT ${SETTLED_AT_ONCE})`
             : '(function_id, name) IN (SELECT * FROM unnest($1::text[], $2::text[]))'
         }
         ORDER BY function_id, name FOR NO KEY UPDATE SKIP LOCKED
       ), ended AS (
         UPDATE schedule_firings AS firings SET status = invocations.status, ended_at = invocations.ended_at
         FROM held, invocations
         WHERE firings.function_id = held.function_id AND firings.schedule = held.name AND firings.status IS NULL
           AND invocations.id = firings.invocation_id AND ${ENDED}
         RETURNING firings.function_id, firings.schedule, firings.status, firings.ended_at,
           firings.fired_at >= held.failures_since AS counts
       ), succeeded AS (
         SELECT function_id, schedule, max(ended_at) FILTER (WHERE status = 'succeeded' AND counts) AS at FROM ended
         GROUP BY function_id, schedule
       ), tally AS (
         SELECT function_id, schedule, at IS NOT NULL AS has_succeeded,
           count(*) FILTER (WHERE status = 'dead' AND counts AND (at IS NULL OR ended_at > at))::integer AS failures
         FROM ended JOIN succeeded USING (function_id, schedule) GROUP BY function_id, schedule, at
       ), changed AS (
         UPDATE schedules SET failures = ${failures}, paused_at = CASE WHEN ${pauses} THEN now() ELSE paused_at END,
         next_at = CASE WHEN ${pauses} THEN NULL ELSE next_at END,
         due_at = CASE WHEN ${pauses} THEN NULL WHEN is_held THEN now() ELSE due_at END,
         is_held = is_held AND NOT ${pauses}, is_resting = is_resting AND NOT ${pauses}
         FROM tally WHERE schedules.function_id = tally.function_id AND schedules.name = tally.schedule
           AND (schedules.is_held OR schedules.failures <> ${failures})
         RETURNING schedules.function_id, schedules.name, schedules.failures,
           paused_at IS NOT NULL AND paused_at = now() AS is_paused
       )
       SELECT tally.function_id AS "functionId", tally.schedule AS name, COALESCE(changed.failures, 0) AS failures,
         COALESCE(is_paused, false) AS "isPaused"
       FROM tally LEFT JOIN changed ON changed.function_id = tally.function_id AND changed.name = tally.schedule`,
      keys === undefined ? [] : columnsOf(keys),
    );
    return { paused: rows.filter(({ isPaused }) => isPaused), settled: rows.length };
  }

  /** Functions with schedules that rest because nobody may call them, and whether that is over. */
  resting(): Promise<{ readonly functionId: FunctionId; readonly isCallable: boolean }[]> {
    return this.database.query(
      `SELECT DISTINCT function_id AS "functionId", ${IS_CALLABLE} AS "isCallable"
       FROM schedules JOIN functions ON functions.id = function_id WHERE is_resting`,
    );
  }

  /** Lets schedules go on that rested. Nothing was missed meanwhile. */
  goOn(functionIds: readonly FunctionId[]): Promise<void> {
    return this.database.transaction(async (ask) => {
      const rows = await ask<Schedule & { readonly now: Date }>(
        `SELECT ${COLUMNS}, date_trunc('milliseconds', now()) AS now FROM schedules
           JOIN functions ON functions.id = function_id
         WHERE function_id = ANY ($1) AND is_resting AND ${MAY_FIRE} AND ${IS_CALLABLE}
         ORDER BY function_id, schedules.name FOR NO KEY UPDATE OF schedules SKIP LOCKED`,
        [functionIds],
      );
      // What can't be read here rests on, for a manager that can.
      const readable = rows.filter(({ cron, timezone }) => cron === null || isCalendar(cron, timezone));
      const next = readable.map((row) => nextAfter(timingOf(row), laterOf(row.now, row.firedFor)));
      await ask(
        `UPDATE schedules SET next_at = moved.next_at, due_at = moved.due_at, is_resting = false
         FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[])
           AS moved (function_id, name, next_at, due_at)
         WHERE schedules.function_id = moved.function_id AND schedules.name = moved.name`,
        [...columnsOf(readable), next, readable.map(({ jitterMs }, index) => dueAt(next[index] ?? null, jitterMs))],
      );
    });
  }

  /** How many there are of each state. */
  async counts(): Promise<Readonly<Record<'active' | 'paused' | 'resting' | 'disabled', number>>> {
    const [row] = await this.database.query<Record<'active' | 'paused' | 'resting' | 'disabled', number>>(
      `SELECT count(*) FILTER (WHERE NOT enabled)::integer AS disabled,
         count(*) FILTER (WHERE enabled AND paused_at IS NOT NULL)::integer AS paused,
         count(*) FILTER (WHERE enabled AND paused_at IS NULL AND is_resting)::integer AS resting,
         count(*) FILTER (WHERE enabled AND paused_at IS NULL AND NOT is_resting)::integer AS active
       FROM schedules`,
    );
    return row ?? { active: 0, paused: 0, resting: 0, disabled: 0 };
  }
}

interface Turn {
  readonly row: DueRow;
  readonly decision: Decision;
  readonly callId?: string;
  readonly fault?: Error;
}

/** One that can't be decided about keeps no other from its turn. */
function turnOf(row: DueRow, isOpen: boolean): Turn {
  const { nextAt, isCallable, isHeld } = row;
  if (!isCallable || nextAt === null) {
    return { row, decision: { fires: null, missed: [], isHeld: false, nextAt: null } };
  }
  try {
    return { row, decision: decide({ ...row, nextAt }, isOpen, row.now) };
  } catch (error) {
    return { row, decision: { fires: null, missed: [], isHeld, nextAt }, fault: error as Error };
  }
}

/** In how long it is looked at before it is due; null: not before. */
function againMs({ row, decision: { isHeld, nextAt }, fault }: Turn): number | null {
  if (fault !== undefined) return UNREADABLE_MS;
  if (!isHeld || nextAt === null) return null;
  return Math.min(HELD_MS.most, Math.max(HELD_MS.least, row.now.getTime() - nextAt.getTime()));
}

function firedOf({ row, decision, callId, fault }: Turn): Fired {
  const { functionId, name, now, isCallable } = row;
  const lagMs = Math.max(0, now.getTime() - (row.dueAt ?? now).getTime());
  const call = callId === undefined ? undefined : { id: callId, lagMs };
  return { functionId, name, missed: decision.missed, call, isResting: !isCallable, fault };
}

function callOf(row: DueRow, scheduledFor: Date): NewInvocation & { schedule: string; scheduledFor: Date } {
  const { functionId, body, payloadBytes, priority, maxAgeMs, retry, choice, callbackUrl, name, updatedBy } = row;
  const { callbackFormat } = row;
  const id = randomUUIDv7();
  const target = row.traffic?.targets.find(({ tag }) => choice?.tag !== undefined && tag === choice.tag);
  return {
    ...{ id, functionId, body, payloadBytes, priority, maxAgeMs, retry, choice, callbackUrl },
    ...{
      callbackFormat,
      http: null,
      token: null,
      delayMs: 0,
      notBefore: null,
      key: null,
      digest: Buffer.alloc(0),
      requestId: id,
      createdBy: updatedBy,
    },
    ...{ schedule: name, scheduledFor },
    revision: choice?.revision ?? target?.revision ?? newestServing(row),
  };
}

function laterOf(moment: Date, other: Date | null | undefined): Date {
  return other !== null && other !== undefined && other > moment ? other : moment;
}

/** Any moment of the jitter, so that schedules of the same time don't all come at once. */
function dueAt(nextAt: Date | null, jitterMs: number): Date | null {
  return nextAt && new Date(nextAt.getTime() + Math.floor(Math.random() * (jitterMs + 1)));
}

function specOf(row: Schedule): ScheduleSpec {
  const { cron, intervalMs, timezone, body, payloadBytes, overlap, catchUpMs, jitterMs, pauseAfterFailures } = row;
  const { enabled, priority, retry, maxAgeMs, choice, callbackUrl, callbackFormat } = row;
  return {
    ...{ cron, intervalMs, timezone, body, payloadBytes, overlap, catchUpMs, jitterMs, pauseAfterFailures },
    ...{ enabled, priority, retry, maxAgeMs, choice, callbackUrl, callbackFormat },
  };
}

function columnsOf(keys: readonly Key[]): [string[], string[]] {
  return [keys.map(({ functionId }) => functionId), keys.map(({ name }) => name)];
}

function textOf({ functionId, name }: Key): string {
  return `${functionId} ${name}`;
}
