import { createHash } from 'node:crypto';

/** Statements that are asked for so often are prepared. */
const FEWEST_USES = 3;
/** Each takes memory of every connection, in the server too. */
const MOST_NAMES = 100;
/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const FEATURE_NOT_SUPPORTED = '0A000';
const INVALID_SQL_STATEMENT_NAME = '26000';
const DUPLICATE_PREPARED_STATEMENT = '42P05';

/**
 * Names under which connections keep statements prepared: to plan a long one takes the server longer than to run it.
 */
export class StatementNames {
  private readonly uses = new Map<string, { count: number; readonly hash: string }>();
  private epoch = 0;
  private isOff = false;

  /** Undefined for one that is not worth it. */
  of(sql: string): string | undefined {
    if (this.isOff) return undefined;
    let use = this.uses.get(sql);
    if (use === undefined) {
      if (this.uses.size >= MOST_NAMES) return undefined;
      use = { count: 0, hash: createHash('sha256').update(sql).digest('hex').slice(0, 16) };
      this.uses.set(sql, use);
    }
    use.count += 1;
    return use.count < FEWEST_USES ? undefined : `${this.prefix}${use.hash}`;
  }

  /**
   * Whether the statement failed for its name, before anything was done: because a release that follows has changed a
   * table since it was prepared, when all get other names; or because a pooler between here and the server gives each
   * transaction another session, when none has a name any more.
   */
  areToBlame(error: unknown, name: string): boolean {
    const { code, routine } = error as { code?: unknown; routine?: unknown };
    if (code === FEATURE_NOT_SUPPORTED && routine === 'RevalidateCachedQuery') {
      if (name.startsWith(this.prefix)) this.epoch += 1;
      return true;
    }
    if (code !== INVALID_SQL_STATEMENT_NAME && code !== DUPLICATE_PREPARED_STATEMENT) return false;
    this.isOff = true;
    return true;
  }

  private get prefix(): string {
    return `faas_${this.epoch}_`;
  }
}
