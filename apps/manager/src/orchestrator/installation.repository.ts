import { Database } from '#libs/database/database.js';
import { whenReachable } from '#libs/database/data-source.js';
import { LOGGER } from '#libs/observability/logging.module.js';
import { Inject, Injectable } from '@nestjs/common';
import type { Logger } from 'pino';

/**
 * All SQL about the installation: all managers that share one database. A manager can't boot without its answers, so
 * they are waited for while the database is away.
 */
@Injectable()
export class InstallationRepository {
  constructor(
    private readonly database: Database,
    @Inject(LOGGER) private readonly logger: Pick<Logger, 'warn'>,
  ) {}

  /** Names this installation on an engine that several may share. */
  async id(): Promise<string> {
    const [row] = await this.query<{ id: string }>('SELECT id FROM installation');
    if (!row) throw new Error('The installation table is empty; the migration that fills it has been undone.');
    return row.id;
  }

  /** What the tokens of its workers are made of. */
  async workerKey(): Promise<Buffer> {
    const [row] = await this.query<{ key: Buffer }>('SELECT key FROM worker_key');
    if (!row) throw new Error('The table worker_key is empty; the migration that fills it has been undone.');
    return row.key;
  }

  /** Records that functions run on this engine from now on. Answers every engine that may have workers of theirs. */
  async addEngine(engine: string): Promise<string[]> {
    const [row] = await this.query<{ engines: string[] }>(
      `UPDATE installation SET engines = CASE WHEN $1 = ANY (engines) THEN engines ELSE engines || $1::text END
       RETURNING engines`,
      [engine],
    );
    return row?.engines ?? [];
  }

  /** Records that no worker is left on the engine. */
  async removeEngine(engine: string): Promise<void> {
    await this.database.query('UPDATE installation SET engines = array_remove(engines, $1)', [engine]);
  }

  /**
   * Makes these settings the newest, which every manager is told of, and records the engine that they name.
   *
   * @param beats done only while nobody has given a sign of life beyond these, which the answer tells; unset: in any case
   */
  async takeSettings(sha256: string, engine: string, beats?: string): Promise<boolean> {
    const rows = await this.database.query(
      `WITH taken AS (
         UPDATE installation SET settings_sha256 = $1, settings_beats = settings_beats + 1,
           engines = CASE WHEN $2 = ANY (engines) THEN engines ELSE engines || $2::text END
         WHERE $3::bigint IS NULL OR settings_beats = $3
         RETURNING id
       ) SELECT pg_notify('faas_settings', '') FROM taken`,
      [sha256, engine, beats ?? null],
    );
    return rows.length > 0;
  }

  /** Says that a manager with these settings is alive, which counts if they are the newest. */
  async beat(sha256: string): Promise<{ isNewest: boolean; areNone: boolean; beats: string }> {
    const [row] = await this.database.query<{ isNewest: boolean; areNone: boolean; beats: string }>(
      `UPDATE installation SET settings_beats = settings_beats + CASE WHEN settings_sha256 = $1 THEN 1 ELSE 0 END
       RETURNING settings_sha256 = $1 AS "isNewest", settings_sha256 = '' AS "areNone", settings_beats AS beats`,
      [sha256],
    );
    if (!row) throw new Error('The installation table is empty; the migration that fills it has been undone.');
    return row;
  }

  /** Says that a manager with these settings ends: others with the same ones, which hear of it, say that they live. */
  async endBeats(sha256: string): Promise<void> {
    await this.database.query(
      `WITH ended AS (UPDATE installation SET settings_beats = 0 WHERE settings_sha256 = $1 RETURNING id)
       SELECT pg_notify('faas_settings', '') FROM ended`,
      [sha256],
    );
  }

  private query<Row>(sql: string, parameters: readonly unknown[] = []): Promise<Row[]> {
    return whenReachable(this.logger, () => this.database.query<Row>(sql, parameters));
  }
}
