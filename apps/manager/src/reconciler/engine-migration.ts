import type { Engine } from '#libs/config/config.js';
import { within } from '#libs/deadlines/within.js';
import { AppError } from '#libs/errors/app-error.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { InstallationRepository } from '../orchestrator/installation.repository.js';
import { OPEN_ENGINE, type OpenEngine } from '../orchestrator/open-engine.js';

/** Calls in flight on workers of a former engine may finish for this long. */
const GRACE_MS = 10_000;
/** Limit for the removal of all functions from a former engine. */
const CLEAR_MS = 10 * 60_000;
/** What an aborted removal may take to leave the engine in order. */
const ABORT_GRACE_MS = 3_000;

/**
 * Removes the workers of this database's functions from engines that ran them before `DEPLOYMENT_ENV` was changed.
 * Otherwise they would run for ever, and no manager would look after them.
 */
@Injectable()
export class EngineMigration implements OnModuleInit, OnApplicationBootstrap {
  private readonly stopping = new AbortController();
  private former: readonly Engine[] = [];
  private migrating: Promise<void> = Promise.resolve();

  constructor(
    private readonly installation: InstallationRepository,
    private readonly orchestrator: Orchestrator,
    @Inject(OPEN_ENGINE) private readonly open: OpenEngine,
    @InjectPinoLogger(EngineMigration.name) private readonly logger: PinoLogger,
  ) {}

  /**
   * Records the engine before the first worker starts there. Engines that were recorded earlier may still have
   * workers.
   */
  async onModuleInit(): Promise<void> {
    const { engine } = this.orchestrator;
    this.former = (await this.installation.addEngine(engine)).filter((one) => one !== engine) as Engine[];
  }

  onApplicationBootstrap(): void {
    this.migrating = Promise.all(this.former.map((one) => this.migrateFrom(one))).then(() => undefined);
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.migrating;
  }

  private async migrateFrom(former: Engine): Promise<void> {
    const { engine } = this.orchestrator;
    this.logger.warn(
      { former, engine },
      `this database's functions ran on ${former} until now and move to ${engine}; managers of one database must all use one engine`,
    );
    try {
      const functions = await this.clear(former);
      this.logger.info({ former, functions }, `nothing of this database's functions is left on ${former}`);
    } catch (error) {
      if (this.stopping.signal.aborted) return;
      if (!(error instanceof AppError)) this.logger.error({ err: error, former }, 'clearing a former engine failed');
      const owner = await this.installation.id().catch(() => '');
      this.logger.warn(
        { former, owner, reason: (error as Error).message },
        `workers of this database's functions may still run on ${former}: start the manager again once it can be reached, or remove there by hand what belongs to ${owner}`,
      );
    }
  }

  private async clear(former: Engine): Promise<number> {
    const orchestrator = await this.open(former);
    try {
      const { signal } = this.stopping;
      const bounds = { ms: CLEAR_MS, graceMs: ABORT_GRACE_MS, signal };
      const functions = await within('clearing it', bounds, (bounded) => removeAll(orchestrator, bounded));
      await this.installation.removeEngine(former);
      return functions;
    } finally {
      await orchestrator.close();
    }
  }
}

/** Resolves with the number of functions that were removed. */
async function removeAll(orchestrator: Orchestrator, signal: AbortSignal): Promise<number> {
  const ids = await orchestrator.list(signal);
  const removals = await Promise.allSettled(ids.map((id) => orchestrator.remove(id, GRACE_MS, signal)));
  const failed = removals.find((removal) => removal.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return ids.length;
}
