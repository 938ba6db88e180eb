import { type Ask, Database } from '#libs/database/database.js';
import { Injectable } from '@nestjs/common';
import type { Packed } from './layer-pieces.js';

/** Between two pieces of an archive, which come from the engine. */
const LONGEST_PAUSE = '60s';

/** Why a build failed, as its maker is told. */
export interface BuildError {
  readonly code: 'requirements_not_installable' | 'build_unavailable';
  readonly message: string;
}

export interface BuildRow {
  readonly state: 'building' | 'ready' | 'failed';
  readonly digest: string | null;
  readonly error: BuildError | null;
  readonly lastLines: readonly string[];
  readonly elapsedMs: number;
  /** Whoever built it is gone. */
  readonly isAbandoned: boolean;
}

/** A layer but for its files. */
export interface LayerRow {
  readonly digest: string;
  readonly lock: string;
  readonly python: string;
  readonly machine: string;
  readonly bytes: number;
  readonly files: number;
  /** Of its archive; null: one that was kept before it was asked for. */
  readonly archiveSha256?: string | null;
}

const BUILD = `state, digest, error, last_lines AS "lastLines",
  (extract(epoch FROM COALESCE(ended_at, now()) - began_at) * 1000)::float8 AS "elapsedMs",
  (state = 'building' AND lease_until < now()) AS "isAbandoned"`;

/** In one go. */
const MOST_COLLECTED = 50;
/** A layer that was found may take so long to be named by its revision. */
const YOUNG_MS = 20 * 60_000;

/** All SQL about layers and their builds. */
@Injectable()
export class LayerRepository {
  constructor(private readonly database: Database) {}

  /** What came of an earlier build of the same, not longer ago than `withinMs` (null: ever); its layer counts as used now. */
  async ready(key: string, withinMs: number | null): Promise<string | undefined> {
    const [row] = await this.database.query<{ digest: string }>(
      `UPDATE layers SET used_at = now() FROM layer_builds AS build
       WHERE build.key = $1 AND build.state = 'ready' AND layers.digest = build.digest
         AND ($2::float8 IS NULL OR ended_at > now() - $2 * interval '1 millisecond') RETURNING layers.digest`,
      [key, withinMs],
    );
    return row?.digest;
  }

  async build(key: string): Promise<BuildRow | undefined> {
    const [row] = await this.database.query<BuildRow>(`SELECT ${BUILD} FROM layer_builds WHERE key = $1`, [key]);
    return row;
  }

  /**
   * Makes this caller the one that builds; false: somebody else does, or has done so not longer ago than `withinMs`
   * (null: ever).
   */
  async begin(key: string, token: string, leaseMs: number, withinMs: number | null): Promise<boolean> {
    const rows = await this.database.query(
      `INSERT INTO layer_builds (key, state, lease_token, lease_until)
       VALUES ($1, 'building', $2, now() + $3 * interval '1 millisecond')
       ON CONFLICT (key) DO UPDATE SET state = 'building', digest = NULL, error = NULL, last_lines = '[]',
         began_at = now(), ended_at = NULL, lease_token = excluded.lease_token, lease_until = excluded.lease_until
       WHERE CASE layer_builds.state
         WHEN 'building' THEN layer_builds.lease_until < now()
         WHEN 'ready' THEN layer_builds.ended_at <= now() - $4::float8 * interval '1 millisecond'
         ELSE true END
       RETURNING key`,
      [key, token, leaseMs, withinMs],
    );
    return rows.length > 0;
  }

  /** False: the lease was lost. */
  async renew(key: string, token: string, leaseMs: number, lines: readonly string[]): Promise<boolean> {
    const rows = await this.database.query(
      `UPDATE layer_builds SET lease_until = now() + $3 * interval '1 millisecond', last_lines = $4
       WHERE key = $1 AND lease_token = $2 AND state = 'building' RETURNING key`,
      [key, token, leaseMs, JSON.stringify(lines)],
    );
    return rows.length > 0;
  }

  async fail(key: string, token: string, error: BuildError, lines: readonly string[]): Promise<void> {
    await this.database.query(
      `UPDATE layer_builds SET state = 'failed', error = $3, last_lines = $4, ended_at = now(), lease_token = NULL
       WHERE key = $1 AND lease_token = $2`,
      [key, token, error, JSON.stringify(lines)],
    );
  }

  /**
   * Keeps a layer, if there is none of its digest, and says of its build that it is ready; all of it or nothing. A build
   * that lost its lease keeps its layer all the same, which is as good as any other of that digest.
   */
  async keep(
    layer: LayerRow,
    { pieces, sha256 }: Packed,
    { key, token, lines }: { key: string; token: string; lines: readonly string[] },
  ): Promise<void> {
    await this.database.transaction(async (ask) => {
      await ask(`SET LOCAL idle_in_transaction_session_timeout = '${LONGEST_PAUSE}'`);
      const { digest, lock, python, machine, bytes, files } = layer;
      const [added] = await ask<{ isNew: boolean }>(
        `INSERT INTO layers (digest, lock, python, machine, bytes, files) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (digest) DO UPDATE SET used_at = now() RETURNING xmax = 0 AS "isNew"`,
        [digest, lock, python, machine, bytes, files],
      );
      if (added?.isNew === true) {
        await addParts(ask, digest, pieces);
        await ask('UPDATE layers SET archive_sha256 = $2 WHERE digest = $1', [digest, sha256()]);
      }
      await ask(
        `UPDATE layer_builds SET state = 'ready', digest = $3, last_lines = $4, ended_at = now(), lease_token = NULL
         WHERE key = $1 AND lease_token = $2`,
        [key, token, digest, JSON.stringify(lines)],
      );
    });
  }

  async find(digest: string): Promise<LayerRow | undefined> {
    const [row] = await this.database.query<LayerRow>(
      `SELECT digest, lock, python, machine, bytes::float8 AS bytes, files, archive_sha256 AS "archiveSha256"
       FROM layers WHERE digest = $1`,
      [digest],
    );
    return row;
  }

  async noteArchive(digest: string, sha256: string): Promise<void> {
    await this.database.query('UPDATE layers SET archive_sha256 = $2 WHERE digest = $1', [digest, sha256]);
  }

  /** Undefined past the last one. */
  async part(digest: string, number: number): Promise<Buffer | undefined> {
    const sql = 'SELECT content FROM layer_parts WHERE digest = $1 AND number = $2';
    const [row] = await this.database.query<{ content: Buffer }>(sql, [digest, number]);
    return row?.content;
  }

  /** Removes layers that no revision names and that were last used before that; which ones are left is the answer. */
  async collect(retentionMs: number): Promise<string[]> {
    await this.database.query(
      `UPDATE layers SET used_at = now() WHERE digest IN (SELECT layer FROM revisions WHERE layer IS NOT NULL)
         AND used_at < now() - interval '1 hour'`,
    );
    // One at a time: a statement that removed gigabytes would take too long, and be made again for ever.
    for (let removed = 0; removed < MOST_COLLECTED; removed += 1) {
      const gone = await this.database.query(
        `DELETE FROM layers WHERE digest = (
           SELECT digest FROM layers WHERE used_at < now() - GREATEST($1::float8, $2) * interval '1 millisecond'
             AND NOT EXISTS (SELECT FROM revisions WHERE layer = layers.digest) LIMIT 1 FOR UPDATE SKIP LOCKED)
           AND NOT EXISTS (SELECT FROM revisions WHERE layer = layers.digest) RETURNING digest`,
        [retentionMs, YOUNG_MS],
      );
      if (gone.length === 0) break;
    }
    await this.database.query(
      `DELETE FROM layer_builds WHERE digest IS NULL AND COALESCE(ended_at, lease_until) < now() - interval '1 day'`,
    );
    const rows = await this.database.query<{ digest: string }>('SELECT digest FROM layers');
    return rows.map(({ digest }) => digest);
  }
}

async function addParts(ask: Ask, digest: string, parts: AsyncIterable<Buffer>): Promise<void> {
  let number = 0;
  for await (const part of parts) {
    const sql = 'INSERT INTO layer_parts (digest, number, content) VALUES ($1, $2, $3)';
    await ask(sql, [digest, number, part]);
    number += 1;
  }
}
