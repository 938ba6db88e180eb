import { Database } from '#libs/database/database.js';
import { within } from '#libs/deadlines/within.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Injectable } from '@nestjs/common';
import { HealthIndicatorService } from '@nestjs/terminus';

const PING_MS = 3_000;

/** What all managers of an installation share. */
export const SHARED = ['database', 'engine'] as const;
export type Shared = (typeof SHARED)[number];

/** What `/readyz` and `/healthz` look at. Each answers within three seconds. */
@Injectable()
export class Indicators {
  private isShuttingDown = false;

  constructor(
    private readonly indicators: HealthIndicatorService,
    private readonly database: Database,
    private readonly orchestrator: Orchestrator,
  ) {}

  /** From now on the manager isn't ready. */
  shutDown(): void {
    this.isShuttingDown = true;
  }

  /** All checks but those of what is named. */
  without(exclude: readonly Shared[]) {
    const shared = { database: this.checkDatabase, engine: this.checkEngine };
    return [this.checkServing, ...SHARED.filter((name) => !exclude.includes(name)).map((name) => shared[name])];
  }

  private readonly checkDatabase = async () => {
    const indicator = this.indicators.check('database');
    const startedAt = performance.now();
    try {
      await within('The answer', { ms: PING_MS }, () => this.database.ping());
      return indicator.up({ elapsed_ms: Math.round(performance.now() - startedAt) });
    } catch (error) {
      return indicator.down({ reason: (error as Error).message });
    }
  };

  private readonly checkEngine = async () => {
    const indicator = this.indicators.check('engine');
    const startedAt = performance.now();
    try {
      await within('The answer', { ms: PING_MS }, (signal) => this.orchestrator.ping(signal));
      const elapsed = Math.round(performance.now() - startedAt);
      return indicator.up({ engine: this.orchestrator.engine, elapsed_ms: elapsed });
    } catch (error) {
      return indicator.down({ engine: this.orchestrator.engine, reason: (error as Error).message });
    }
  };

  private readonly checkServing = async () => {
    const indicator = this.indicators.check('serving');
    return this.isShuttingDown ? indicator.down({ reason: 'shutting down' }) : indicator.up();
  };
}
