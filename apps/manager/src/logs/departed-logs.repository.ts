import { Batch } from '#libs/database/batch.js';
import { Database } from '#libs/database/database.js';
import type { LastWords } from '#libs/orchestrator/departures.js';
import type { LogLine, PlainLine } from '#libs/orchestrator/replica-log.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { Injectable } from '@nestjs/common';

/** What is kept of a function: so many replicas, and so many bytes; the newest of them in any case. */
const MOST_REPLICAS = 20;
const MOST_BYTES = 256 * 1024;
const KEPT_FOR = '7 days';
/** Each is 64 KiB and more. */
const MOST_AT_ONCE = 32;

interface DepartedRow {
  readonly replica: string;
  readonly revision: number | null;
  readonly lines: string;
}

/** All SQL about the logs of replicas that are gone. */
@Injectable()
export class DepartedLogsRepository {
  private readonly writes = new Batch((words: readonly LastWords[]) => this.writeAll(words), MOST_AT_ONCE);

  constructor(private readonly database: Database) {}

  /** The same again replaces it. A function that is gone keeps nothing. */
  async keep(words: LastWords): Promise<void> {
    await this.writes.add(words);
  }

  /** The lines of a function's former replicas, the oldest first. */
  async of(functionId: FunctionId): Promise<LogLine[]> {
    const rows = await this.database.query<DepartedRow>(
      `SELECT replica, revision, lines FROM departed_logs
       WHERE function_id = $1 AND departed_at > now() - interval '${KEPT_FOR}'`,
      [functionId],
    );
    const lines = rows.flatMap(({ replica, revision, lines: text }) =>
      (JSON.parse(text) as PlainLine[]).map((line) => ({ ...line, replica, revision: revision ?? undefined })),
    );
    return lines.toSorted((a, b) => (a.time < b.time ? -1 : Number(a.time > b.time)));
  }

  async forgetOld(): Promise<void> {
    await this.database.query(`DELETE FROM departed_logs WHERE departed_at < now() - interval '${KEPT_FOR}'`);
  }

  private async writeAll(all: readonly LastWords[]): Promise<undefined[]> {
    // One statement can't write a row twice.
    const words = [...new Map(all.map((one) => [`${one.functionId} ${one.replica}`, one])).values()];
    const functions = words.map(({ functionId }) => functionId);
    await this.database.query(
      `WITH present AS (
         SELECT id, COALESCE(workload_of, id) AS owner FROM functions WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE
       ), owners AS (
         SELECT id FROM functions WHERE id IN (SELECT owner FROM present) ORDER BY id FOR KEY SHARE
       )
       INSERT INTO departed_logs (function_id, replica, revision, lines)
       SELECT present.owner, said.replica, said.revision, said.lines
       FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[]) AS said (id, replica, revision, lines)
       JOIN present ON present.id = said.id JOIN owners ON owners.id = present.owner
       ORDER BY present.owner, said.replica
       ON CONFLICT (function_id, replica) DO UPDATE
         SET revision = EXCLUDED.revision, lines = EXCLUDED.lines, departed_at = now()`,
      [
        functions,
        words.map(({ replica }) => replica),
        words.map(({ revision }) => revision ?? null),
        words.map(({ lines }) => JSON.stringify(lines)),
      ],
    );
    await this.database.query(
      `DELETE FROM departed_logs USING (
         SELECT function_id, replica, row_number() OVER newest AS place, sum(octet_length(lines)) OVER newest AS bytes
         FROM departed_logs
         WHERE function_id IN (SELECT COALESCE(workload_of, id) FROM functions WHERE id = ANY ($1))
         WINDOW newest AS (PARTITION BY function_id ORDER BY departed_at DESC, replica)
       ) AS kept
       WHERE departed_logs.function_id = kept.function_id AND departed_logs.replica = kept.replica
         AND kept.place > 1 AND (kept.place > $2 OR kept.bytes > $3)`,
      [functions, MOST_REPLICAS, MOST_BYTES],
    );
    return all.map(() => undefined);
  }
}
