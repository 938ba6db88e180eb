import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BuildCopy, copyBuild } from './build-copy.js';
import { Caller } from './caller.js';
import { ManagerProcess } from './manager-process.js';
import { type CrashPostgres, startCrashPostgres } from './postgres.js';
import type { CrashSite } from './site.js';

export const CALL_TIMEOUT_MS = 10_000;

/** Everything at its quickest, so that a round takes seconds. */
const ENVIRONMENT = {
  LISTEN_ADDR: '127.0.0.1:0',
  LOG_LEVEL: 'info',
  SCALE_INTERVAL_MS: '100',
  WARM_POOL_SIZE: '0',
  WARM_POOL_LEASE_MS: '2000',
  RECONCILE_POLL_MS: '250',
  RECONCILE_LEASE_MS: '1500',
  RECONCILE_RESYNC_MS: '1000',
  ORPHAN_SWEEP_MS: '1000',
  READY_TIMEOUT_MS: '40000',
  WORKER_MEMORY_MIB: '128',
};

/** Two managers on one database and one engine, all of them real and all of them killable. */
export class Stage {
  readonly managers: readonly ManagerProcess[];
  readonly callers: readonly Caller[];

  private constructor(
    private readonly folder: string,
    readonly postgres: CrashPostgres,
    readonly site: CrashSite,
    build: BuildCopy,
    more: Readonly<Record<string, string>>,
  ) {
    const env = () => ({ ...ENVIRONMENT, DATABASE_URL: postgres.databaseUrl, ...site.env, ...more });
    this.managers = ['A', 'B'].map((name) => new ManagerProcess(name, build, env()));
    this.callers = this.managers.map((manager) => new Caller(manager));
  }

  /** @param envOf what managers need to know beside what the site says */
  static async open(
    openSite: (folder: string, build: BuildCopy) => Promise<CrashSite>,
    envOf: (site: CrashSite) => Promise<Readonly<Record<string, string>>> = () => Promise.resolve({}),
  ): Promise<Stage> {
    const folder = await mkdtemp(join(tmpdir(), 'crash-'));
    await chmod(folder, 0o755);
    const undo: (() => Promise<void>)[] = [() => rm(folder, { recursive: true, force: true })];
    try {
      const build = await copyBuild(join(folder, 'b'));
      const postgres = await startCrashPostgres();
      undo.unshift(() => postgres.stop());
      const site = await openSite(folder, build);
      undo.unshift(() => site.close());
      const stage = new Stage(folder, postgres, site, build, await envOf(site));
      undo.unshift(() => stage.killManagers());
      await Promise.all(stage.managers.map((manager) => manager.start()));
      return stage;
    } catch (error) {
      for (const step of undo) await step();
      throw error;
    }
  }

  /** Whatever state everything is in. */
  async close(): Promise<void> {
    await this.killManagers();
    const results = await Promise.allSettled([this.site.close(), this.postgres.stop()]);
    await rm(this.folder, { recursive: true, force: true });
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  logs(lines: number): string {
    return this.managers.map((one) => `--- log of manager ${one.name}\n${one.tail(lines)}`).join('\n');
  }

  private async killManagers(): Promise<void> {
    await Promise.all(this.managers.map((manager) => manager.kill()));
  }
}
