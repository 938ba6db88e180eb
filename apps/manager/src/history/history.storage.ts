import { Database } from '#libs/database/database.js';
import { Injectable } from '@nestjs/common';
import { type Segment, TABLES } from './segments.js';

/** One manager at a time changes segments. */
const LOCK = 7_013_272;

interface SegmentRow extends Omit<Segment, 'rows' | 'bytes'> {
  readonly rows: string;
  readonly bytes: string;
}

/** The segments of the history, each a partition of the tables of its family. */
@Injectable()
export class HistoryStorage {
  constructor(private readonly database: Database) {}

  async segments(): Promise<Segment[]> {
    const sizes = Object.entries(TABLES).map(([family, tables]) => {
      const all = tables.map((table) => `COALESCE(pg_total_relation_size(to_regclass('${table}_' || number)), 0)`);
      return `WHEN '${family}' THEN ${all.join(' + ')}`;
    });
    const rows = await this.database.query<SegmentRow>(
      `SELECT family, number, rows, opened_at AS "openedAt", closed_at AS "closedAt",
         CASE family ${sizes.join(' ')} END AS bytes
       FROM history_segments ORDER BY family, number`,
    );
    return rows.map(({ rows: count, bytes, ...row }) => ({ ...row, rows: Number(count), bytes: Number(bytes) }));
  }

  /** Makes the segment after this one, unless another manager has. */
  async openAfter({ family, number }: Pick<Segment, 'family' | 'number'>): Promise<void> {
    await this.database.alone(LOCK, async (ask) => {
      const [newest] = await ask<{ number: number }>(
        // Before any table is locked, as writers do.
        'SELECT number FROM history_segments WHERE family = $1 ORDER BY number DESC LIMIT 1 FOR UPDATE',
        [family],
      );
      if (newest?.number !== number) return;
      const next = number + 1;
      for (const table of TABLES[family]) {
        // One that is made as a part would lock out whoever reads the others.
        await ask(`CREATE TABLE ${table}_${next} (LIKE ${table} INCLUDING ALL)`);
        await ask(`ALTER TABLE ${table}_${next} ALTER COLUMN segment SET DEFAULT ${next}`);
        await ask(`ALTER TABLE ${table} ATTACH PARTITION ${table}_${next} FOR VALUES IN (${next})`);
      }
      await ask('UPDATE history_segments SET closed_at = now() WHERE family = $1 AND number = $2', [family, number]);
      await ask('INSERT INTO history_segments (family, number) VALUES ($1, $2)', [family, next]);
      // Managers that are gone.
      await ask(`DELETE FROM history_writers WHERE written_at < now() - interval '7 days'`);
    });
  }

  /** Removes a segment that is not the newest. */
  async drop({ family, number }: Pick<Segment, 'family' | 'number'>): Promise<void> {
    await this.database.alone(LOCK, async (ask) => {
      await ask('DELETE FROM history_segments WHERE family = $1 AND number = $2', [family, number]);
      for (const table of TABLES[family]) await ask(`DROP TABLE IF EXISTS ${table}_${number}`);
    });
  }
}
