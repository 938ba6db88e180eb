import { type Ask, Database } from '#libs/database/database.js';
import { Injectable } from '@nestjs/common';
import { DUE_NOW, IN_LOCK_ORDER } from '../functions/function.repository.js';
import type { Sealed } from './keyring.js';

/** A secret as everybody may see it. */
export interface SecretRow {
  readonly name: string;
  readonly keyId: string;
  /** Of the value: another one has another version. */
  readonly version: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly updatedBy: string | null;
}

export type SealedSecret = Pick<SecretRow, 'name' | 'version'> & Sealed;

/** A function, and those of its kept revisions that name the secret. */
export interface SecretUser {
  readonly secret: string;
  readonly id: string;
  readonly name: string | null;
  readonly revisions: readonly number[];
}

/** What a change of a secret leads to. */
export interface Written {
  readonly row: SecretRow;
  readonly outcome: 'made' | 'changed' | 'same';
}

const SHOWN = `name, key_id AS "keyId", version, created_at AS "createdAt", updated_at AS "updatedAt",
  updated_by AS "updatedBy"`;
const SEALED = 'name, version, key_id AS "keyId", nonce, ciphertext';
/** So that two new ones at once can't pass the limit. */
const COUNT_LOCK = 7_013_257;

/** Whether a column of {@link SecretTargets} names the secret of this parameter. */
function names(column: string, parameter: string): string {
  return `EXISTS (SELECT FROM jsonb_each(${column}) AS used (target, source)
    WHERE ${parameter} IN (source #>> '{}', source ->> 'file'))`;
}

/** Functions that use a secret, in the order in which they are locked. */
const USERS = `SELECT id FROM functions WHERE deleted_at IS NULL AND ${names('secrets', '$1')} ${IN_LOCK_ORDER}`;

/** All SQL about secrets. No statement's text holds a value, and no value is ever in the clear here. */
@Injectable()
export class SecretRepository {
  constructor(private readonly database: Database) {}

  /** In the order of their names, after this one. */
  list(after: string, limit: number): Promise<SecretRow[]> {
    return this.database.query<SecretRow>(`SELECT ${SHOWN} FROM secrets WHERE name > $1 ORDER BY name LIMIT $2`, [
      after,
      limit,
    ]);
  }

  /** Those of the names that there are. */
  sealed(secrets: readonly string[]): Promise<SealedSecret[]> {
    return this.database.query<SealedSecret>(`SELECT ${SEALED} FROM secrets WHERE name = ANY ($1)`, [secrets]);
  }

  /** In the order of their names, after this one; with `except` only those that another key has encrypted. */
  sealedAfter(name: string, limit: number, except: string | null): Promise<SealedSecret[]> {
    return this.database.query<SealedSecret>(
      `SELECT ${SEALED} FROM secrets WHERE name > $1 AND ($3::text IS NULL OR key_id <> $3) ORDER BY name LIMIT $2`,
      [name, limit, except],
    );
  }

  /** The same value under another key. False: somebody has changed it, or was faster. */
  async reseal({ name, version, nonce }: SealedSecret, sealed: Sealed): Promise<boolean> {
    const rows = await this.database.query(
      `UPDATE secrets SET key_id = $4, nonce = $5, ciphertext = $6
       WHERE name = $1 AND version = $2 AND nonce = $3 RETURNING name`,
      [name, version, nonce, sealed.keyId, sealed.nonce, sealed.ciphertext],
    );
    return rows.length > 0;
  }

  /** By function and secret; of one secret or of all. */
  users(secret: string | null, ask: Ask = (sql, values) => this.database.query(sql, values)): Promise<SecretUser[]> {
    return ask<SecretUser>(
      `WITH used AS (
         SELECT COALESCE(workload_of, id) AS id, active_revision AS number, secrets FROM functions WHERE secrets <> '{}'
         UNION ALL SELECT function_id, number, settings -> 'secrets' FROM revisions
         WHERE jsonb_typeof(settings -> 'secrets') = 'object'
       ), named AS (
         SELECT DISTINCT used.id, used.number,
           CASE jsonb_typeof(source) WHEN 'string' THEN source #>> '{}' ELSE source ->> 'file' END AS secret
         FROM used, jsonb_each(used.secrets) AS one (target, source)
       )
       SELECT secret, functions.id, functions.name, array_agg(number ORDER BY number) AS revisions
       FROM named JOIN functions USING (id)
       WHERE deleted_at IS NULL AND ($1::text IS NULL OR secret = $1)
       GROUP BY secret, functions.id ORDER BY secret, functions.position`,
      [secret],
    );
  }

  /**
   * Writes a value, unless `isSame` says that it is there already, and has the functions that use it replaced. All or
   * nothing of it. `most`: how many secrets there may be; undefined is answered where that is reached.
   */
  async write(
    name: string,
    by: string | null,
    { isSame, seal }: { isSame: (there: SealedSecret) => boolean; seal: (name: string) => SealedSecret },
    most: number,
  ): Promise<Written | undefined> {
    const written = await this.database.transaction(async (ask) => {
      const found = await this.locked(name, ask);
      if (found !== undefined && isSame(found)) {
        return { row: await this.shown(name, ask), outcome: 'same' } as const;
      }
      if (found === undefined && !(await this.hasRoom(name, most, ask))) return undefined;
      const { keyId, nonce, ciphertext, version } = seal(name);
      const [row] = await ask<SecretRow>(
        `INSERT INTO secrets (name, key_id, nonce, ciphertext, version, updated_by) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (name) DO UPDATE SET key_id = EXCLUDED.key_id, nonce = EXCLUDED.nonce,
           ciphertext = EXCLUDED.ciphertext, version = EXCLUDED.version, updated_at = now(), updated_by = EXCLUDED.updated_by
         RETURNING ${SHOWN}`,
        [name, keyId, nonce, ciphertext, version, by],
      );
      await this.replaceUsers(name, ask);
      return { row: row as SecretRow, outcome: found === undefined ? 'made' : 'changed' } as const;
    });
    // One that came meanwhile may have read the former value, and wasn't there to be replaced.
    if (written?.outcome === 'changed') {
      await this.database.query(`UPDATE functions SET ${DUE_NOW} WHERE id IN (${USERS}) AND phase <> 'idle'`, [name]);
    }
    return written;
  }

  /** False: there is none. `inUse` is asked while nobody can change it, and throws where it must stay. */
  async remove(name: string, inUse: (users: readonly SecretUser[]) => void): Promise<boolean> {
    return this.database.transaction(async (ask) => {
      if ((await this.locked(name, ask)) === undefined) return false;
      // By the same connection: of several removals at once each would wait for one that another holds.
      inUse(await this.users(name, ask));
      await ask('DELETE FROM secrets WHERE name = $1', [name]);
      return true;
    });
  }

  private async locked(name: string, ask: Ask): Promise<SealedSecret | undefined> {
    const [row] = await ask<SealedSecret>(`SELECT ${SEALED} FROM secrets WHERE name = $1 FOR UPDATE`, [name]);
    return row;
  }

  private async shown(name: string, ask: Ask): Promise<SecretRow> {
    const [row] = await ask<SecretRow>(`SELECT ${SHOWN} FROM secrets WHERE name = $1`, [name]);
    return row as SecretRow;
  }

  private async hasRoom(name: string, most: number, ask: Ask): Promise<boolean> {
    await ask('SELECT pg_advisory_xact_lock($1)', [COUNT_LOCK]);
    const [row] = await ask<{ others: number }>('SELECT count(*)::integer AS others FROM secrets WHERE name <> $1', [
      name,
    ]);
    return (row?.others ?? 0) < most;
  }

  /** Functions that sleep get the new value when they wake; what failed for the former value is tried again. */
  private async replaceUsers(name: string, ask: Ask): Promise<void> {
    await ask(
      `UPDATE functions SET generation = generation + 1, failures = 0, postponed = 0, not_before = NULL,
         observed_generation = observed_generation + CASE WHEN phase = 'idle' AND replicas = 0
           AND observed_generation = generation THEN 1 ELSE 0 END,
         reconcile_at = CASE WHEN phase = 'idle' AND replicas = 0 THEN reconcile_at ELSE now() END,
         wakes = wakes + 1
       WHERE id IN (${USERS})`,
      [name],
    );
  }
}
