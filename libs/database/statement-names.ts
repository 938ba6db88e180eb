import { createHash } from 'node:crypto';

/** Statements that are asked for so often are prepared. */
const FEWEST_USES = 3;
/** Each takes memory of every connection, in the server too. */
const MOST_NAMES = 100;
/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const FEATURE_NOT_SUPPORTED = '0A000';

/**
 * Names under which connections keep statements prepared: to plan a long one takes the server longer than to run it.
 */
export class StatementNames {
  private readonly uses = new Map<string, { count: number; readonly hash: string }>();
  private epoch = 0;

  /** Undefined for one that is not worth it. */
  of(sql: string): string | undefined {
    let use = this.uses.get(sql);
    if (use === undefined) {
      if (this.uses.size >= MOST_NAMES) return undefined;
      use = { count: 0, hash: createHash('sha256').update(sql).digest('hex').slice(0, 16) };
      this.uses.set(sql, use);
    }
    use.count += 1;
    return use.count < FEWEST_USES ? undefined : `faas_${this.epoch}_${use.hash}`;
  }

  /**
   * Whether the statement failed because a release that follows has changed a table since it was prepared. From then on
   * all have other names.
   */
  areOutdated(error: unknown): boolean {
    const { code, message } = error as { code?: unknown; message?: unknown };
    const isOutdated = code === FEATURE_NOT_SUPPORTED && String(message).includes('cached plan');
    if (isOutdated) this.epoch += 1;
    return isOutdated;
  }
}
