import { type Ask, type Copy, Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';
import { CALL_KINDS, type CallKind } from '../gateway/call-ends.js';
import {
  CALL_COLUMNS,
  type CallRow,
  CALL_STATUSES,
  keptCall,
  type KeptCall,
  type KeptCallWithPayload,
} from './call.js';
import { ROW_COLUMNS, type Rows } from './call-rows.js';
import { CANCELLED, type Minute } from './minutes.js';

/** What was kept of a call's payload and result. */
export interface KeptPayload {
  readonly id: string;
  /** Which of the rows that are written with it is its call's. */
  readonly row: number;
  readonly payload: Buffer | null;
  readonly isRedacted: boolean;
  readonly result: Buffer | null;
}

/** What is written at once. */
export interface WrittenCalls {
  /** By which it is known when it comes again. */
  readonly id: string;
  readonly rows: Rows;
  readonly minutes: readonly Minute[];
  readonly payloads: readonly KeptPayload[];
}

export interface CallFilter {
  /** One that no call at once has: there are none of it. */
  readonly status?: string | undefined;
  readonly kind?: CallKind | undefined;
  readonly revision?: number | undefined;
  readonly code?: string | undefined;
  /** Ids: from the first on, and before the last. */
  readonly from: string;
  readonly before: string;
  readonly limit: number;
}

/** A part of a list, the newest first. */
export interface Scanned<Row> {
  readonly rows: readonly Row[];
  /** Those before this id have not been looked at; undefined: all have, or as many as were asked for are found. */
  readonly downTo: string | undefined;
}

/** What a time of a function has. */
export interface Counted {
  readonly at: Date;
  readonly calls: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly coldStarts: number;
  readonly durations: readonly number[];
}

/** How many calls are looked at for those that meet a filter, so that one request stays short. */
const MOST_SCANNED = 10_000;
/** `later`: attempts, which are lists of their own. */
const SCHEDULED: ReadonlySet<CallKind> = new Set(['later', 'schedule']);

/** No segment was there to write to. Nothing was written. */
export class SegmentGone extends Error {
  override readonly name = 'SegmentGone';
}

/** All SQL about calls that have ended. */
@Injectable()
export class HistoryRepository {
  constructor(private readonly database: Database) {}

  /**
   * Writes calls into the newest segment, and what they add up to, all or nothing. What this writer has written last is
   * not written again, so that whoever hasn't heard what became of it may try once more. Answers how many calls that
   * segment has.
   */
  write({ id, rows, minutes, payloads }: WrittenCalls, writer: string): Promise<number> {
    return this.database.transaction(async (ask, copy) => {
      // A crash of the database may take the last of it back.
      await ask('SET LOCAL synchronous_commit = off');
      // A transaction that goes on after its manager has lost it has the row until it has ended.
      const marked = await ask(
        `INSERT INTO history_writers AS known (id, last_write) VALUES ($1, $2)
         ON CONFLICT (id) DO UPDATE SET last_write = EXCLUDED.last_write, written_at = now()
         WHERE known.last_write <> EXCLUDED.last_write
         RETURNING id`,
        [writer, id],
      );
      if (marked.length === 0) return 0;
      const written = rows.count === 0 ? 0 : await this.writeCalls({ rows, payloads }, ask, copy);
      if (minutes.length > 0) await this.writeMinutes(ask, minutes);
      return written;
    });
  }

  private async writeCalls(
    { rows, payloads }: Pick<WrittenCalls, 'rows' | 'payloads'>,
    ask: Ask,
    copy: Copy,
  ): Promise<number> {
    const [segment] = await ask<{ number: number; rows: string }>(
      `UPDATE history_segments SET rows = rows + $1
       WHERE family = 'calls' AND number = (SELECT max(number) FROM history_segments WHERE family = 'calls')
       RETURNING number, rows`,
      [rows.count],
    );
    // It went at this moment, for another one.
    if (segment === undefined) throw new SegmentGone();
    await copy(`COPY calls_${segment.number} (${ROW_COLUMNS}) FROM STDIN (FORMAT binary)`, rows.copied);
    if (payloads.length > 0) await this.writePayloads(ask, segment.number, payloads);
    return Number(segment.rows);
  }

  private async writePayloads(ask: Ask, segment: number, payloads: readonly KeptPayload[]): Promise<void> {
    await ask(
      `INSERT INTO call_payloads (segment, id, payload, is_redacted, result)
       SELECT $1::integer, given.* FROM unnest($2::uuid[], $3::bytea[], $4::boolean[], $5::bytea[]) AS given`,
      [
        segment,
        payloads.map(({ id }) => id),
        payloads.map(({ payload }) => payload),
        payloads.map(({ isRedacted }) => isRedacted),
        payloads.map(({ result }) => result),
      ],
    );
  }

  private async writeMinutes(ask: Ask, minutes: readonly Minute[]): Promise<void> {
    await ask(
      `INSERT INTO call_minutes AS known (segment, function_id, minute, revision, calls, failed, cancelled, cold_starts,
         durations)
       SELECT (SELECT max(number) FROM history_segments WHERE family = 'minutes'), function_id,
         to_timestamp(at / 1000.0), revision, calls, failed, cancelled, cold_starts, durations::integer[]
       FROM unnest($1::text[], $2::float8[], $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
         $8::text[]) AS given (function_id, at, revision, calls, failed, cancelled, cold_starts, durations)
       ORDER BY function_id COLLATE "C", at, revision
       ON CONFLICT (function_id, minute, revision, segment) DO UPDATE SET
         calls = known.calls + EXCLUDED.calls, failed = known.failed + EXCLUDED.failed,
         cancelled = known.cancelled + EXCLUDED.cancelled, cold_starts = known.cold_starts + EXCLUDED.cold_starts,
         durations = ARRAY(SELECT COALESCE(one, 0) + COALESCE(other, 0)
           FROM unnest(known.durations, EXCLUDED.durations) WITH ORDINALITY AS sums (one, other, place)
           ORDER BY place)`,
      [
        minutes.map(({ functionId }) => functionId),
        minutes.map(({ at }) => at),
        minutes.map(({ revision }) => revision),
        minutes.map(({ calls }) => calls),
        minutes.map(({ failed }) => failed),
        minutes.map(({ cancelled }) => cancelled),
        minutes.map(({ coldStarts }) => coldStarts),
        minutes.map(({ durations }) => `{${durations.join()}}`),
      ],
    );
  }

  /**
   * Calls of a function but for attempts of calls for later. What is compared is the pair that the index has, for the
   * planner would read whole segments by their ids otherwise, to find the few calls of one function.
   */
  list(functionId: FunctionId, filter: CallFilter): Promise<Scanned<KeptCall>> {
    const { status, code, from, before } = filter;
    const hasFailed = code !== undefined || status === 'failed' || status === 'cancelled';
    return this.scan(
      `FROM calls WHERE (function_id, id) >= ($1, $2) AND (function_id, id) < ($1, $3)
         AND invocation_id IS NULL ${hasFailed ? 'AND code IS NOT NULL' : ''}
       ORDER BY function_id DESC, id DESC`,
      [functionId, from, before],
      filter,
    );
  }

  /** Code that was run once. */
  runs(filter: CallFilter): Promise<Scanned<KeptCall>> {
    const { from, before } = filter;
    return this.scan(
      `FROM calls WHERE id >= $1 AND id < $2 AND kind = ${CALL_KINDS.indexOf('run')} ORDER BY id DESC`,
      [from, before],
      filter,
    );
  }

  private async scan(
    ordered: string,
    values: readonly unknown[],
    { status, kind, revision, code, limit }: CallFilter,
  ): Promise<Scanned<KeptCall>> {
    const isOfQueue = status !== undefined && !(CALL_STATUSES as readonly string[]).includes(status);
    if (isOfQueue || (kind !== undefined && SCHEDULED.has(kind))) return { rows: [], downTo: undefined };
    const isFiltered = [status, kind, revision, code].some((one) => one !== undefined);
    const scanned = isFiltered ? MOST_SCANNED : limit;
    const at = (index: number) => `$${values.length + index}`;
    const rows = await this.inOrder<Partial<CallRow> & { readonly scanned: number; readonly last: string | null }>(
      `WITH scanned AS MATERIALIZED (
         SELECT ${CALL_COLUMNS} ${ordered} LIMIT ${at(1)}
       ), found AS (
         SELECT * FROM scanned
         WHERE (${at(3)}::smallint IS NULL OR kind = ${at(3)}) AND (${at(4)}::integer IS NULL OR revision = ${at(4)})
           AND (${at(5)}::text IS NULL OR code = ${at(5)})
           AND CASE ${at(6)}::text WHEN 'succeeded' THEN code IS NULL WHEN 'cancelled' THEN code = '${CANCELLED}'
             WHEN 'failed' THEN code <> '${CANCELLED}' ELSE true END
         ORDER BY id DESC LIMIT ${at(2)}
       )
       SELECT found.*, ends.* FROM (
         SELECT count(*)::integer AS scanned, (SELECT id FROM scanned ORDER BY id LIMIT 1) AS last FROM scanned
       ) AS ends LEFT JOIN found ON true ORDER BY id DESC`,
      [
        ...values,
        scanned,
        limit,
        kind === undefined ? null : CALL_KINDS.indexOf(kind),
        revision ?? null,
        code ?? null,
        status ?? null,
      ],
    );
    const found = rows.filter((row): row is typeof row & CallRow => row.id !== null).map(keptCall);
    const [ends] = rows;
    const isCutShort = found.length < limit && ends !== undefined && ends.scanned === scanned;
    return { rows: found, downTo: isCutShort ? (ends.last ?? undefined) : undefined };
  }

  /**
   * Reads along an index from its end. The planner takes two bounds of a pair for next to nothing, of which it would
   * sort all. Up to version 17 it also takes a sort that it can't do without for so much that the statement would be
   * compiled.
   */
  private inOrder<Row>(sql: string, values: readonly unknown[]): Promise<Row[]> {
    return this.database.transaction(
      async (ask) => {
        await ask(`SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true)`);
        return ask<Row>(sql, values);
      },
      { isRepeatable: true },
    );
  }

  async find(id: string): Promise<KeptCallWithPayload | null> {
    const [row] = await this.database.query<CallRow & Omit<KeptPayload, 'isRedacted'> & { isRedacted: boolean | null }>(
      `SELECT found.*, payload, is_redacted AS "isRedacted", result
       FROM (SELECT ${CALL_COLUMNS} FROM calls WHERE id = $1 LIMIT 1) AS found
         LEFT JOIN call_payloads ON call_payloads.id = $1`,
      [id],
    );
    return row === undefined ? null : keptCall(row);
  }

  /** The attempts of a call for later, the newest first. */
  async attempts(invocation: string, most: number): Promise<KeptCall[]> {
    const rows = await this.database.query<CallRow>(
      `SELECT ${CALL_COLUMNS} FROM calls WHERE invocation_id = $1 ORDER BY id DESC LIMIT $2`,
      [invocation, most],
    );
    return rows.map(keptCall);
  }

  /** Since when, in milliseconds since the epoch, calls are added up. */
  async oldestSum(): Promise<number> {
    const [row] = await this.database.query<{ readonly oldest: Date | null }>(
      `SELECT min(opened_at) AS oldest FROM history_segments WHERE family = 'minutes'`,
    );
    return row?.oldest?.getTime() ?? 0;
  }

  /** What a function's calls since then add up to, in steps of so many seconds; those without any are left out. */
  async counts(
    functionId: FunctionId,
    revision: number | undefined,
    { since, until, stepSeconds }: { readonly since: Date; readonly until: Date; readonly stepSeconds: number },
  ): Promise<Counted[]> {
    const rows = await this.database.query<Omit<Counted, 'durations'> & { readonly durations: string | null }>(
      `WITH found AS MATERIALIZED (
         SELECT to_timestamp(floor(extract(epoch FROM minute) / $5) * $5) AS at, calls, failed, cancelled, cold_starts,
           durations
         FROM call_minutes
         WHERE function_id = $1 AND minute >= $2 AND minute < $3 AND ($4::integer IS NULL OR revision = $4)
       ), buckets AS (
         SELECT at, place, sum(calls_of_bucket) AS calls
         FROM found CROSS JOIN unnest(durations) WITH ORDINALITY AS of_minute (calls_of_bucket, place)
         WHERE calls_of_bucket > 0 GROUP BY at, place
       ), distribution AS (
         SELECT at, string_agg(place || ':' || calls, ',') AS durations FROM buckets GROUP BY at
       ), sums AS (
         SELECT at, sum(calls)::float8 AS calls, sum(failed)::float8 AS failed, sum(cancelled)::float8 AS cancelled,
           sum(cold_starts)::float8 AS "coldStarts"
         FROM found GROUP BY at
       )
       SELECT sums.*, distribution.durations FROM sums LEFT JOIN distribution USING (at) ORDER BY at`,
      [functionId, since, until, revision ?? null, stepSeconds],
    );
    return rows.map(({ durations, ...row }) => ({ ...row, durations: bucketsIn(durations ?? '') }));
  }
}

/** @param text places, from 1 on, and how many calls each has: `18:3,20:1` */
function bucketsIn(text: string): number[] {
  const buckets: number[] = [];
  for (const pair of text === '' ? [] : text.split(',')) {
    const [place = 0, calls = 0] = pair.split(':').map(Number);
    while (buckets.length < place) buckets.push(0);
    buckets[place - 1] = calls;
  }
  return buckets;
}
