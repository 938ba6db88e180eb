import type { InvocationsConfig } from '#libs/config/config.js';
import { INVOCATIONS_CONFIG } from '#libs/config/config.module.js';
import { Batch } from '#libs/database/batch.js';
import { type Ask, Database } from '#libs/database/database.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Inject, Injectable } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { IN_LOCK_ORDER, IS_UNHURRIED, unhurried } from '../functions/function.repository.js';
import type { Choice } from '../traffic/traffic.js';
import type { CallKind } from '../gateway/call-ends.js';
import type { CallStatus } from '../history/call.js';
import type { Scanned } from '../history/history.repository.js';
import { FIRST_ID, firstIdOf, LAST_ID } from './days.js';
import {
  type AttemptError,
  type CallbackFormat,
  type CallbackStatus,
  type CalledPath,
  type Invocation,
  PRIORITIES,
  type RetryPolicy,
  type Status,
} from './invocation.js';

export interface NewInvocation {
  readonly id: string;
  readonly functionId: FunctionId;
  readonly body: Buffer;
  readonly payloadBytes: number;
  readonly priority: number;
  readonly delayMs: number;
  readonly notBefore: Date | null;
  readonly maxAgeMs: number;
  readonly retry: RetryPolicy;
  readonly choice: Choice | null;
  readonly revision: number;
  readonly requestId: string;
  readonly createdBy: string | null;
  readonly http: CalledPath | null;
  readonly callbackUrl: string | null;
  readonly callbackFormat: CallbackFormat;
  readonly key: string | null;
  readonly digest: Buffer;
  /** Of a call that begins as soon as it is kept: its manager holds it by this. Null: it waits. */
  readonly token: string | null;
  /** Of one that a schedule has made. */
  readonly schedule?: string;
  readonly scheduledFor?: Date;
}

/** What became of a call that was to be kept. */
export type Enqueued =
  | ({ readonly outcome: 'added'; readonly dueInMs: number } & Pick<Invocation, 'createdAt' | 'dueAt' | 'expiresAt'>)
  /** The first one of its key: the same request, or another one. */
  | { readonly outcome: 'known'; readonly id: string; readonly isSame: boolean }
  | { readonly outcome: 'no_function' | 'function_full' | 'all_full' };

type EnqueuedRow =
  | Extract<Enqueued, { outcome: 'added' }>
  | { readonly outcome: Exclude<Enqueued['outcome'], 'added' | 'known'> | 'key_taken' };

/** The right to make one attempt, until the lease ends. */
export interface Claimed extends Pick<Invocation, 'id' | 'functionId' | 'retry' | 'choice' | 'attempt' | 'createdBy'> {
  readonly token: string;
  readonly postponed: number;
  /** Undefined: it is large, and read when its function has a slot for it. */
  readonly body: Buffer | undefined;
  readonly bodyBytes: number;
  readonly isExpired: boolean;
  readonly isCancelled: boolean;
  readonly hasCallback: boolean;
  /** The body is that of an HTTP call. */
  readonly isHttp: boolean;
  readonly isScheduled: boolean;
}

/** An ended call that somebody is to be told of. */
export interface DueCallback extends Invocation {
  /** The same for each attempt to tell of one end of it: its own id, or, once it was redriven, another. */
  readonly callbackId: string;
  /** As the worker gave it. */
  readonly result: Buffer | null;
}

/** How many calls of a function may be claimed. */
export interface Turn {
  readonly functionId: FunctionId;
  readonly most: number;
}

/** What an attempt ends with. */
export interface Completion {
  readonly id: string;
  readonly token: string;
  readonly status: Exclude<Status, 'running'>;
  /** Of one that waits again. */
  readonly inMs?: number;
  readonly counts?: boolean;
  readonly revision?: number | undefined;
  readonly result?: Buffer | undefined;
  /** Of a result that isn't kept, too. */
  readonly resultBytes?: number | undefined;
  readonly error?: AttemptError | undefined;
}

/** What waits of a function that is due, now or soon. */
export interface Upcoming {
  readonly functionId: FunctionId;
  readonly inMs: number;
}

export interface ListFilter {
  readonly status?: Status | CallStatus | undefined;
  readonly kind?: CallKind | undefined;
  readonly revision?: number | undefined;
  /** Of the error that it ended with, or that its last attempt failed with. */
  readonly code?: string | undefined;
  readonly since?: Date | undefined;
  readonly until?: Date | undefined;
  readonly after?: string | undefined;
  readonly limit: number;
}

/** How many callbacks may be claimed. */
export interface CallbackRoom {
  readonly most: number;
  readonly perFunction: number;
  /** By function. */
  readonly underWay: ReadonlyMap<FunctionId, number>;
}

/** What waits and runs of one function, and since when the oldest that is due waits. */
export interface QueueDepth {
  readonly functionId: FunctionId;
  readonly calls: number;
  readonly oldestMs: number | null;
}

/** Larger ones are read when they are needed. */
export const INLINE_BYTES = 16 * 1024;
/** How many calls are looked at for those that meet a filter without an index. */
const MOST_SCANNED = 10_000;
/** What one statement may carry. */
const STATEMENT_BYTES = 8 * 1024 * 1024;
/** A larger result is left out of a callback. */
/** As its column has it: a stream may be longer. */
const MOST_BYTES_TOLD = 2 ** 31 - 1;
const LARGEST_TOLD = 1024 * 1024;
const MOST_LOST = 10;
/** By which the clocks of managers, whose ids have their time, and of the database may differ. */
const CLOCKS_MS = 3_600_000;
/**
 * A key whose call is gone is somebody else's then; before that the statement that made it may not be over, and its call
 * not to be seen. Longer than a statement may take.
 */
const KEY_SETTLED = `interval '1 minute'`;
const AT_ONCE = 1_000;

const COLUMNS = `id, function_id AS "functionId", status, priority, created_at AS "createdAt", created_by AS "createdBy",
  request_id AS "requestId", idempotency_key AS "idempotencyKey", due_at AS "dueAt", expires_at AS "expiresAt", retry,
  choice, enqueued_revision AS "enqueuedRevision", payload_bytes AS "payloadBytes", attempt, started_at AS "startedAt",
  ended_at AS "endedAt", revision, result_bytes AS "resultBytes", error, cancel_requested AS "cancelRequested",
  http, COALESCE(callback_format, 'plain') AS "callbackFormat", callback_url AS "callbackUrl", callback_status AS "callbackStatus", callback_attempt AS "callbackAttempt",
  callback_error AS "callbackError", schedule, scheduled_for AS "scheduledFor"`;

const CALLBACK_ID = 'COALESCE(callback_id, id)';

/** Functions that are being removed have no calls any more. */
const OF_PRESENT = `EXISTS (SELECT FROM functions WHERE functions.id = function_id AND deleted_at IS NULL)`;

/** Whoever wants to be told of a call's end is, where it ends with the statement. */
function calledBackIf(hasEnded: string): string {
  const isWanted = `callback_url IS NOT NULL AND (${hasEnded})`;
  return `callback_due_at = CASE WHEN ${isWanted} THEN now() END,
    callback_status = CASE WHEN ${isWanted} THEN 'waiting' END`;
}

/** Of a call that begins as soon as it is kept, and of one that waits. */
const IF_HELD = (held: string, waits = 'NULL') => `CASE WHEN token IS NULL THEN ${waits} ELSE ${held} END`;

/** One place fewer for each call that has ended, which `ended (function_id, bytes)` names. Rows are locked in one order. */
const COUNT_DOWN = `
  fewer AS MATERIALIZED (
    SELECT function_id, count(*)::integer AS calls, sum(bytes)::bigint AS bytes FROM ended GROUP BY function_id
  ), held AS MATERIALIZED (
    SELECT function_id FROM invocation_queues WHERE function_id IN (SELECT function_id FROM fewer)
    ORDER BY function_id FOR UPDATE
  ), counted AS (
    UPDATE invocation_queues SET calls = invocation_queues.calls - fewer.calls,
      bytes = invocation_queues.bytes - fewer.bytes
    FROM fewer JOIN held USING (function_id) WHERE invocation_queues.function_id = fewer.function_id
  )`;

/** All SQL about calls for later. Their rows are the queue. */
@Injectable()
export class InvocationRepository {
  private readonly enqueues = new Batch((calls: readonly NewInvocation[]) => this.enqueueAll(calls), 256, {
    of: ({ body }) => body.length,
    most: STATEMENT_BYTES,
  });
  private readonly completions = new Batch((all: readonly Completion[]) => this.completeAll(all), 256, {
    of: ({ result }) => result?.length ?? 0,
    most: STATEMENT_BYTES,
  });
  private readonly bodies = new Batch((ids: readonly string[]) => this.bodiesOf(ids), 8);

  constructor(
    private readonly database: Database,
    @Inject(INVOCATIONS_CONFIG) private readonly config: InvocationsConfig,
  ) {}

  /** Resolves once the call's row is committed. Those that come at once are committed together. */
  enqueue(call: NewInvocation): Promise<Enqueued> {
    return this.enqueues.add(call);
  }

  /** The same of many, as part of what `ask` is about. */
  async enqueueAll(
    calls: readonly NewInvocation[],
    ask: Ask = (sql, values) => this.database.query(sql, values),
  ): Promise<Enqueued[]> {
    const { perFunction, most, bytesPerFunction, mostBytes, leaseMs } = this.config;
    // The smallest come first, so that one that is refused takes no room from those after it.
    const rows = await ask<EnqueuedRow>(
      `WITH asked AS MATERIALIZED (
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::integer[], $5::smallint[], $6::float8[],
           $7::timestamptz[], $8::float8[], $9::text[], $10::text[], $11::integer[], $12::text[], $13::text[],
           $14::text[], $15::bytea[], $20::text[], $21::text[], $22::text[], $23::uuid[], $25::text[], $26::timestamptz[]) WITH ORDINALITY
           AS asked (id, function_id, body, payload_bytes, priority, delay_ms, not_before, max_age_ms, retry, choice,
             revision, request_id, created_by, key, digest, callback_url,
             callback_format, http, token, schedule, scheduled_for, place)
       ), due AS MATERIALIZED (
         SELECT *, GREATEST(not_before, now() + delay_ms * interval '1 millisecond') AS due_at FROM asked
       ), held AS MATERIALIZED (
         SELECT function_id, calls, bytes FROM invocation_queues WHERE function_id = ANY ($2)
         ORDER BY function_id FOR UPDATE
       ), present AS MATERIALIZED (
         SELECT due.*, COALESCE(held.calls, 0) + count(*) OVER of_function <= $16
             AND COALESCE(held.bytes, 0) + sum(octet_length(body)) OVER of_function <= $17 AS fits
         FROM due JOIN functions ON functions.id = due.function_id AND deleted_at IS NULL
           LEFT JOIN held ON held.function_id = due.function_id
         WINDOW of_function AS (PARTITION BY due.function_id ORDER BY octet_length(body), place)
       ), fitting AS MATERIALIZED (
         SELECT *, count(*) FILTER (WHERE fits) OVER of_all
             + (SELECT COALESCE(sum(calls), 0) FROM invocation_queues) <= $18
           AND COALESCE(sum(octet_length(body)) FILTER (WHERE fits) OVER of_all, 0)
             + (SELECT COALESCE(sum(bytes), 0) FROM invocation_queues) <= $19 AS fits_all
         FROM present WINDOW of_all AS (ORDER BY octet_length(body), place)
       ), keyed AS (
         INSERT INTO invocation_keys (function_id, key, digest, invocation_id)
         SELECT DISTINCT ON (function_id, key) function_id, key, digest, id FROM fitting
         WHERE fits AND fits_all AND key IS NOT NULL ORDER BY function_id, key, place
         ON CONFLICT (function_id, key) DO UPDATE SET digest = EXCLUDED.digest,
           invocation_id = EXCLUDED.invocation_id, created_at = now()
         WHERE invocation_keys.created_at < now() - ${KEY_SETTLED}
           AND NOT EXISTS (SELECT FROM invocations WHERE id = invocation_keys.invocation_id)
         RETURNING invocation_id
       ), added AS (
         INSERT INTO invocations (id, function_id, priority, created_by, request_id, idempotency_key, due_at, max_age_ms,
           expires_at, retry, choice, enqueued_revision, body, payload_bytes, callback_url, callback_format, http,
           status, attempt, lease_token, lease_until, started_at, schedule, scheduled_for)
         SELECT id, function_id, priority, created_by, request_id, key, due_at, max_age_ms,
           due_at + max_age_ms * interval '1 millisecond', retry::jsonb, choice::jsonb, revision, body,
           payload_bytes, callback_url, callback_format, http::jsonb, ${IF_HELD("'running'", "'waiting'")}, ${IF_HELD('1', '0')},
           token, ${IF_HELD(`now() + $24 * interval '1 millisecond'`)}, ${IF_HELD('now()')}, schedule, scheduled_for
         FROM fitting WHERE fits AND fits_all AND (key IS NULL OR id IN (SELECT invocation_id FROM keyed))
         RETURNING id, function_id, octet_length(body) AS bytes, created_at, expires_at
       ), counted AS (
         INSERT INTO invocation_queues AS queues (function_id, calls, bytes)
         SELECT function_id, count(*), sum(bytes) FROM added GROUP BY function_id ORDER BY function_id
         ON CONFLICT (function_id) DO UPDATE
           SET calls = queues.calls + EXCLUDED.calls, bytes = queues.bytes + EXCLUDED.bytes
       )
       SELECT CASE WHEN added.id IS NOT NULL THEN 'added' WHEN fitting.id IS NULL THEN 'no_function'
           WHEN NOT fits THEN 'function_full' WHEN NOT fits_all THEN 'all_full' ELSE 'key_taken' END AS outcome,
         (extract(epoch FROM due.due_at - now()) * 1000)::float8 AS "dueInMs", created_at AS "createdAt",
         due.due_at AS "dueAt", expires_at AS "expiresAt"
       FROM due LEFT JOIN fitting USING (id) LEFT JOIN added USING (id) ORDER BY due.place`,
      [
        calls.map(({ id }) => id),
        calls.map(({ functionId }) => functionId),
        calls.map(({ body }) => body),
        calls.map(({ payloadBytes }) => payloadBytes),
        calls.map(({ priority }) => priority),
        calls.map(({ delayMs }) => delayMs),
        calls.map(({ notBefore }) => notBefore),
        calls.map(({ maxAgeMs }) => maxAgeMs),
        calls.map(({ retry }) => JSON.stringify(retry)),
        calls.map(({ choice }) => choice && JSON.stringify(choice)),
        calls.map(({ revision }) => revision),
        calls.map(({ requestId }) => requestId),
        calls.map(({ createdBy }) => createdBy),
        calls.map(({ key }) => key),
        calls.map(({ digest }) => digest),
        perFunction,
        bytesPerFunction,
        most,
        mostBytes,
        calls.map(({ callbackUrl }) => callbackUrl),
        calls.map(({ callbackUrl, callbackFormat }) => callbackUrl && callbackFormat),
        calls.map(({ http }) => http && JSON.stringify(http)),
        calls.map(({ token }) => token),
        leaseMs,
        calls.map(({ schedule }) => schedule ?? null),
        calls.map(({ scheduledFor }) => scheduledFor ?? null),
      ],
    );
    const first = await this.firstOfKeys(calls.filter((_, index) => rows[index]?.outcome !== 'added'));
    return calls.map((call, index): Enqueued => {
      const row = rows[index] as EnqueuedRow;
      if (row.outcome === 'added') return row;
      const { outcome } = row;
      const known = call.key === null ? undefined : first.get(`${call.functionId} ${call.key}`);
      // It is answered as it was, however full the queue is by now.
      if (known !== undefined && outcome !== 'no_function') {
        return { outcome: 'known', id: known.id, isSame: known.digest.equals(call.digest) };
      }
      // Its key was forgotten in between: another try gets it.
      return { outcome: outcome === 'key_taken' ? 'function_full' : outcome };
    });
  }

  private async firstOfKeys(calls: readonly NewInvocation[]): Promise<Map<string, { id: string; digest: Buffer }>> {
    const keyed = calls.filter(({ key }) => key !== null);
    if (keyed.length === 0) return new Map();
    const rows = await this.database.query<{ functionId: string; key: string; id: string; digest: Buffer }>(
      `SELECT function_id AS "functionId", key, invocation_id AS id, digest FROM invocation_keys
       WHERE (function_id, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))`,
      [keyed.map(({ functionId }) => functionId), keyed.map(({ key }) => key)],
    );
    return new Map(rows.map(({ functionId, key, id, digest }) => [`${functionId} ${key}`, { id, digest }]));
  }

  /**
   * Claims due calls for a lease: of each function at most so many, those of the highest priority first, then those that
   * are due for the longest. Rows that are locked stay as they were found, so that nothing but their ids need be asked
   * for again: any other condition tempts the planner to read the whole queue. An attempt counts from its claim on; whoever finds that it wasn't made gives it back.
   */
  async claim(turns: readonly Turn[], leaseMs: number): Promise<Claimed[]> {
    const token = randomUUID();
    const rows = await this.database.query<
      Omit<Claimed, 'token' | 'body'> & {
        readonly body: Buffer | null;
        readonly priority: number;
        readonly dueAt: Date;
      }
    >(
      `WITH ${unhurried()}, turns AS MATERIALIZED (
         SELECT * FROM unnest($1::text[], $2::integer[]) AS turns (function_id, most)
         WHERE ${OF_PRESENT} AND ${IS_UNHURRIED}
       ), due AS MATERIALIZED (
         SELECT picked.id FROM turns CROSS JOIN LATERAL (
           SELECT next.id FROM unnest($3::smallint[]) AS level CROSS JOIN LATERAL (
             SELECT id FROM invocations
             WHERE function_id = turns.function_id AND status = 'waiting' AND priority = level AND due_at <= now()
             ORDER BY due_at LIMIT turns.most FOR UPDATE SKIP LOCKED
           ) AS next LIMIT turns.most
         ) AS picked
       )
       UPDATE invocations SET status = 'running', lease_token = $4,
         lease_until = now() + $5 * interval '1 millisecond', attempt = attempt + 1, started_at = now()
       WHERE id = ANY (ARRAY(SELECT id FROM due))
       RETURNING id, function_id AS "functionId", retry, choice, attempt, postponed, created_by AS "createdBy", priority,
         due_at AS "dueAt", CASE WHEN octet_length(body) <= ${INLINE_BYTES} THEN body END AS body,
         octet_length(body) AS "bodyBytes", expires_at <= now() AS "isExpired", cancel_requested AS "isCancelled",
         callback_url IS NOT NULL AS "hasCallback",
         http IS NOT NULL AS "isHttp", schedule IS NOT NULL AS "isScheduled"`,
      [turns.map(({ functionId }) => functionId), turns.map(({ most }) => most), LEVELS, token, leaseMs],
    );
    return rows
      .toSorted((a, b) => b.priority - a.priority || a.dueAt.getTime() - b.dueAt.getTime())
      .map(({ body, ...row }) => ({ ...row, token, body: body ?? undefined }));
  }

  /** Lengthens leases. Answers which of these are still held, and which of those shall be cancelled. */
  async renew(
    claims: readonly Pick<Claimed, 'id' | 'token'>[],
    leaseMs: number,
  ): Promise<ReadonlyMap<string, { readonly isCancelled: boolean }>> {
    const rows = await this.database.query<{ id: string; isCancelled: boolean }>(
      `WITH ${unhurried()}, held AS MATERIALIZED (
         SELECT id FROM invocations WHERE id = ANY ($1) AND status = 'running' ${IN_LOCK_ORDER}
       )
       UPDATE invocations SET lease_until = now() + $3 * interval '1 millisecond'
       FROM unnest($1::uuid[], $2::uuid[]) AS claims (id, token) JOIN held USING (id)
       WHERE invocations.id = ANY ($1) AND invocations.id = claims.id AND status = 'running' AND lease_token = token
         AND ${IS_UNHURRIED}
       RETURNING invocations.id, cancel_requested AS "isCancelled"`,
      [claims.map(({ id }) => id), claims.map(({ token }) => token), leaseMs],
    );
    return new Map(rows.map(({ id, isCancelled }) => [id, { isCancelled }]));
  }

  /** What a large call sends. */
  async body(id: string): Promise<Buffer | null> {
    return this.bodies.add(id);
  }

  /** What a call is made anew of, beside what is shown of it. */
  async origin(id: string): Promise<Pick<NewInvocation, 'body' | 'maxAgeMs'> | null> {
    const [row] = await this.database.query<{ readonly body: Buffer; readonly maxAgeMs: string }>(
      'SELECT body, max_age_ms AS "maxAgeMs" FROM invocations WHERE id = $1',
      [id],
    );
    return row === undefined ? null : { body: row.body, maxAgeMs: Number(row.maxAgeMs) };
  }

  private async bodiesOf(ids: readonly string[]): Promise<(Buffer | null)[]> {
    const rows = await this.database.query<{ id: string; body: Buffer }>(
      'SELECT id, body FROM invocations WHERE id = ANY ($1)',
      [ids],
    );
    const found = new Map(rows.map(({ id, body }) => [id, body]));
    return ids.map((id) => found.get(id) ?? null);
  }

  /** Writes what an attempt ended with. False: its lease was lost, and nothing was written. */
  complete(completion: Completion): Promise<boolean> {
    return this.completions.add(completion);
  }

  private async completeAll(all: readonly Completion[]): Promise<boolean[]> {
    const rows = await this.database.query<{ id: string }>(
      `WITH done AS MATERIALIZED (
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::float8[], $5::boolean[], $6::integer[],
           $7::bytea[], $8::integer[], $9::text[])
           AS done (id, token, status, in_ms, counts, revision, result, result_bytes, error)
       ), mine AS MATERIALIZED (
         SELECT id FROM invocations WHERE id = ANY ($1) AND status = 'running' ${IN_LOCK_ORDER}
       ), written AS (
         UPDATE invocations SET
           status = CASE WHEN done.status = 'waiting' AND cancel_requested THEN 'cancelled' ELSE done.status END,
           attempt = CASE WHEN counts THEN attempt ELSE attempt - 1 END,
           postponed = CASE WHEN counts THEN 0 ELSE postponed + 1 END, lost = 0,
           due_at = CASE WHEN in_ms IS NULL THEN due_at
             ELSE LEAST(now() + in_ms * interval '1 millisecond', GREATEST(now(), expires_at)) END,
           ended_at = CASE WHEN done.status <> 'waiting' OR cancel_requested THEN now() END,
           revision = COALESCE(done.revision, invocations.revision), result = done.result,
           result_bytes = done.result_bytes,
           error = CASE WHEN done.error::jsonb->>'code' = '${EXPIRED.code}' THEN COALESCE(invocations.error, done.error::jsonb)
             ELSE COALESCE(done.error::jsonb, invocations.error) END,
           ${calledBackIf("done.status <> 'waiting' OR cancel_requested")}, lease_token = NULL, lease_until = NULL
         FROM done JOIN mine USING (id)
         WHERE invocations.id = ANY ($1) AND invocations.id = done.id AND lease_token = token
         RETURNING invocations.id, function_id, invocations.status, octet_length(body) AS bytes
       ), ended AS (
         SELECT function_id, bytes FROM written WHERE status <> 'waiting'
       ), ${COUNT_DOWN}
       SELECT id FROM written`,
      [
        all.map(({ id }) => id),
        all.map(({ token }) => token),
        all.map(({ status }) => status),
        all.map(({ inMs }) => inMs ?? null),
        all.map(({ counts = true }) => counts),
        all.map(({ revision }) => revision ?? null),
        all.map(({ result }) => result ?? null),
        all.map(({ resultBytes }) => (resultBytes === undefined ? null : Math.min(resultBytes, MOST_BYTES_TOLD))),
        all.map(({ error }) => (error === undefined ? null : JSON.stringify(error))),
      ],
    );
    const written = new Set(rows.map(({ id }) => id));
    return all.map(({ id }) => written.has(id));
  }

  /**
   * Takes back calls whose manager has gone, and tells which functions have calls that are due within `aheadMs`. A call
   * that has lost too many managers may be what ends them.
   */
  async upcoming(aheadMs: number): Promise<Upcoming[]> {
    return this.database.query<Upcoming>(
      `WITH lost AS MATERIALIZED (
         SELECT id FROM invocations WHERE status = 'running' AND lease_until < now() LIMIT ${AT_ONCE}
         FOR UPDATE SKIP LOCKED
       ), back AS (
         UPDATE invocations SET
           status = CASE WHEN cancel_requested THEN 'cancelled' WHEN lost + 1 >= ${MOST_LOST} THEN 'dead' ELSE 'waiting' END,
           attempt = attempt - 1, lost = lost + 1, lease_token = NULL, lease_until = NULL,
           error = CASE WHEN lost + 1 >= ${MOST_LOST} AND NOT cancel_requested THEN jsonb_build_object('code', 'attempt_lost',
             'detail', 'The managers that ran it ended again and again before it did.') ELSE error END,
           ended_at = CASE WHEN cancel_requested OR lost + 1 >= ${MOST_LOST} THEN now() END,
           ${calledBackIf(`cancel_requested OR lost + 1 >= ${MOST_LOST}`)}
         WHERE id = ANY (ARRAY(SELECT id FROM lost))
         RETURNING function_id, status, octet_length(body) AS bytes
       ), ended AS (
         SELECT function_id, bytes FROM back WHERE status <> 'waiting'
       ), ${COUNT_DOWN}
       SELECT function_id AS "functionId", 0::float8 AS "inMs" FROM back WHERE status = 'waiting'
       UNION
       SELECT queues.function_id, GREATEST(0, extract(epoch FROM next.due_at - now()) * 1000)::float8
       FROM invocation_queues AS queues CROSS JOIN LATERAL (
         SELECT min(first.due_at) AS due_at FROM unnest($2::smallint[]) AS level CROSS JOIN LATERAL (
           SELECT due_at FROM invocations
           WHERE function_id = queues.function_id AND status = 'waiting' AND priority = level
             AND due_at <= now() + $1 * interval '1 millisecond'
           ORDER BY due_at LIMIT 1
         ) AS first
       ) AS next
       WHERE queues.calls > 0 AND next.due_at IS NOT NULL AND ${OF_PRESENT.replace('function_id', 'queues.function_id')}`,
      [aheadMs, LEVELS],
    );
  }

  /** A call of a function that is there. */
  async find(id: string): Promise<Invocation | null> {
    const [row] = await this.database.query<Invocation>(
      `SELECT ${COLUMNS} FROM invocations WHERE id = $1 AND ${OF_PRESENT}`,
      [id],
    );
    return row ?? null;
  }

  /** The worker's body of a successful call. */
  async result(id: string): Promise<Buffer | null> {
    const [row] = await this.database.query<{ result: Buffer | null }>('SELECT result FROM invocations WHERE id = $1', [
      id,
    ]);
    return row?.result ?? null;
  }

  /**
   * The newest first. Ids are of about the moment at which calls came, and keep the rest from being read; the status is
   * part of the statement, so that the few dead ones are found by their own index.
   */
  async list(functionId: FunctionId, filter: ListFilter): Promise<Scanned<Invocation>> {
    const { status, kind, revision, code, since, until, after, limit } = filter;
    // Calls at once are not kept here.
    const isAtOnce = kind !== undefined && kind !== 'later' && kind !== 'schedule';
    if (status === 'failed' || isAtOnce) return { rows: [], downTo: undefined };
    const ofKind = kind === undefined ? '' : `AND schedule IS ${kind === 'later' ? '' : 'NOT'} NULL`;
    const first = since === undefined ? FIRST_ID : firstIdOf(new Date(since.getTime() - CLOCKS_MS));
    const last = until === undefined ? LAST_ID : firstIdOf(new Date(until.getTime() + CLOCKS_MS));
    const ordered = `FROM invocations
       WHERE function_id = $1 ${status === undefined ? '' : `AND status = '${status}'`} ${ofKind} AND id >= $2 AND id < $3
         AND ($4::timestamptz IS NULL OR created_at >= $4) AND ($5::timestamptz IS NULL OR created_at < $5)
       ORDER BY id DESC LIMIT $6`;
    const before = after !== undefined && after < last ? after : last;
    const values = [functionId, first, before, since ?? null, until ?? null];
    if (revision === undefined && code === undefined) {
      const rows = await this.database.query<Invocation>(`SELECT ${COLUMNS} ${ordered}`, [...values, limit]);
      return { rows, downTo: undefined };
    }
    const scanned = await this.database.query<{ id: string; isWanted: boolean | null }>(
      `SELECT id, ($7::integer IS NULL OR COALESCE(revision, enqueued_revision) = $7) AND ($8::text IS NULL OR error->>'code' = $8) AS "isWanted"
       ${ordered}`,
      [...values, MOST_SCANNED, revision ?? null, code ?? null],
    );
    const ids = scanned.filter(({ isWanted }) => isWanted === true).slice(0, limit);
    const rows = await this.database.query<Invocation>(
      `SELECT ${COLUMNS} FROM invocations WHERE id = ANY ($1) ORDER BY id DESC`,
      [ids.map(({ id }) => id)],
    );
    const isCutShort = ids.length < limit && scanned.length === MOST_SCANNED;
    return { rows, downTo: isCutShort ? scanned.at(-1)?.id : undefined };
  }

  /** Ends a call that waits, and asks for the end of one that runs. The row as it is then; null: there is none. */
  async cancel(id: string): Promise<Invocation | null> {
    const [row] = await this.database.query<Invocation>(
      `WITH cancelled AS (
         UPDATE invocations SET cancel_requested = true,
           status = CASE WHEN status = 'waiting' THEN 'cancelled' ELSE status END,
           ended_at = CASE WHEN status = 'waiting' THEN now() END, ${calledBackIf("status = 'waiting'")}
         WHERE id = $1 AND status IN ('waiting', 'running') AND ${OF_PRESENT}
         RETURNING *
       ), ended AS (
         SELECT function_id, octet_length(body) AS bytes FROM cancelled WHERE status = 'cancelled'
       ), ${COUNT_DOWN}
       SELECT ${COLUMNS} FROM cancelled`,
      [id],
    );
    return row ?? null;
  }

  /** Lets dead calls wait again as if they had just come: at most so many of them, the oldest first. Answers how many. */
  async redrive(functionId: FunctionId, ids: readonly string[] | null, most: number): Promise<number> {
    const { perFunction, most: mostCalls } = this.config;
    const rows = await this.database.query<{ id: string }>(
      `WITH held AS MATERIALIZED (
         SELECT calls FROM invocation_queues WHERE function_id = $1 FOR UPDATE
       ), room AS MATERIALIZED (
         SELECT LEAST($3, $4 - COALESCE((SELECT calls FROM held), 0),
           $5 - (SELECT COALESCE(sum(calls), 0) FROM invocation_queues))::integer AS calls
       ), dead AS MATERIALIZED (
         SELECT id FROM invocations
         WHERE function_id = $1 AND status = 'dead' AND ($2::uuid[] IS NULL OR id = ANY ($2))
         ORDER BY id LIMIT GREATEST(0, (SELECT calls FROM room)) FOR UPDATE SKIP LOCKED
       ), back AS (
         UPDATE invocations SET status = 'waiting', attempt = 0, lost = 0, postponed = 0, due_at = now(),
           expires_at = now() + max_age_ms * interval '1 millisecond', ended_at = NULL, cancel_requested = false,
           callback_due_at = NULL, callback_status = NULL, callback_attempt = 0, callback_error = NULL,
           callback_id = CASE WHEN callback_url IS NOT NULL THEN gen_random_uuid() END
         WHERE id = ANY (ARRAY(SELECT id FROM dead))
         RETURNING id, octet_length(body) AS bytes, schedule, scheduled_for
       ), open_again AS (
         UPDATE schedule_firings AS firings SET status = NULL, ended_at = NULL FROM back
         WHERE firings.function_id = $1 AND firings.schedule = back.schedule
           AND firings.scheduled_for = back.scheduled_for AND firings.invocation_id = back.id
       ), counted AS (
         INSERT INTO invocation_queues AS queues (function_id, calls, bytes)
         SELECT $1, count(*), sum(bytes) FROM back HAVING count(*) > 0
         ON CONFLICT (function_id) DO UPDATE
           SET calls = queues.calls + EXCLUDED.calls, bytes = queues.bytes + EXCLUDED.bytes
       )
       SELECT id FROM back`,
      [functionId, ids, most, perFunction, mostCalls],
    );
    return rows.length;
  }

  /** Whether any of these calls, or of all the function's, is dead. */
  async hasDead(functionId: FunctionId, ids: readonly string[] | null): Promise<boolean> {
    const rows = await this.database.query(
      `SELECT FROM invocations WHERE function_id = $1 AND status = 'dead' AND ($2::uuid[] IS NULL OR id = ANY ($2))
       LIMIT 1`,
      [functionId, ids],
    );
    return rows.length > 0;
  }

  /** Gives up calls that have waited for as long as they may and that nobody could try. Answers how many. */
  async expire(): Promise<number> {
    const rows = await this.database.query(
      `WITH late AS MATERIALIZED (
         SELECT id FROM invocations WHERE status = 'waiting' AND expires_at < now() LIMIT ${AT_ONCE}
         FOR UPDATE SKIP LOCKED
       ), given_up AS (
         UPDATE invocations SET status = 'dead', ended_at = now(), error = COALESCE(error, ${EXPIRED_SQL}),
           ${calledBackIf('true')}
         WHERE id = ANY (ARRAY(SELECT id FROM late))
         RETURNING id, function_id, octet_length(body) AS bytes
       ), ended AS (SELECT function_id, bytes FROM given_up), ${COUNT_DOWN}
       SELECT id FROM given_up`,
    );
    return rows.length;
  }

  /**
   * Claims ended calls whose callbacks are due, each for so long: at most `perFunction` of each, with those that are
   * `underWay` already, so that a target that takes long holds up its own.
   */
  claimCallbacks({ most, perFunction, underWay }: CallbackRoom, leaseMs: number): Promise<DueCallback[]> {
    const counts = [...underWay];
    return this.database.query<DueCallback>(
      `WITH ${unhurried()}, due AS MATERIALIZED (
         SELECT id, function_id, callback_due_at FROM invocations
         WHERE callback_due_at <= now() AND function_id <> ALL ($6) AND ${IS_UNHURRIED}
         ORDER BY callback_due_at LIMIT $1 FOR UPDATE SKIP LOCKED
       ), places AS (
         SELECT id, row_number() OVER (PARTITION BY function_id ORDER BY callback_due_at) + COALESCE(calls, 0) AS place
         FROM due LEFT JOIN unnest($3::text[], $4::integer[]) AS busy (function_id, calls) USING (function_id)
       )
       UPDATE invocations SET callback_due_at = now() + $2 * interval '1 millisecond',
         callback_attempt = callback_attempt + 1
       WHERE id = ANY (ARRAY(SELECT id FROM places WHERE place <= $5))
       RETURNING ${COLUMNS}, ${CALLBACK_ID} AS "callbackId",
         CASE WHEN result_bytes <= ${LARGEST_TOLD} THEN result END AS result`,
      [
        most,
        leaseMs,
        counts.map(([id]) => id),
        counts.map(([, calls]) => calls),
        perFunction,
        counts.filter(([, calls]) => calls >= perFunction).map(([id]) => id),
      ],
    );
  }

  /** Writes how an attempt to deliver a callback ended; `inMs`: when the next one is due, null: there is none. */
  async recordCallback(
    { id, callbackId, callbackAttempt }: Pick<DueCallback, 'id' | 'callbackId' | 'callbackAttempt'>,
    status: CallbackStatus,
    { error = null, inMs = null }: { readonly error?: string | null; readonly inMs?: number | null } = {},
  ): Promise<void> {
    // An attempt after this one, or a redrive, says more.
    await this.database.query(
      `UPDATE invocations SET callback_status = $3, callback_error = $4,
         callback_due_at = now() + $5 * interval '1 millisecond'
       WHERE id = $1 AND callback_attempt = $2 AND callback_due_at IS NOT NULL AND ${CALLBACK_ID} = $6`,
      [id, callbackAttempt, status, error, inMs, callbackId],
    );
  }

  /** What waits, of the functions that have most of it. */
  depths(most: number): Promise<QueueDepth[]> {
    return this.database.query<QueueDepth>(
      `SELECT queues.function_id AS "functionId", queues.calls,
         (extract(epoch FROM now() - oldest.due_at) * 1000)::float8 AS "oldestMs"
       FROM (SELECT * FROM invocation_queues WHERE calls > 0 ORDER BY calls DESC LIMIT $1) AS queues
       CROSS JOIN LATERAL (
         SELECT min(first.due_at) AS due_at FROM unnest($2::smallint[]) AS level CROSS JOIN LATERAL (
           SELECT due_at FROM invocations
           WHERE function_id = queues.function_id AND status = 'waiting' AND priority = level AND due_at <= now()
           ORDER BY due_at LIMIT 1
         ) AS first
       ) AS oldest`,
      [most, LEVELS],
    );
  }
}

export const EXPIRED: AttemptError = {
  code: 'invocation_expired',
  detail: 'It waited for as long as it may (max_age_ms) and could not be tried.',
};
const EXPIRED_SQL = `'${JSON.stringify(EXPIRED)}'::jsonb`;

/** Priorities, the highest first. */
const LEVELS = PRIORITIES.map((_, index) => index).toReversed();
