import { Metrics } from '#libs/observability/metrics.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { InjectPinoLogger, PinoLogger } from 'nestjs-pino';
import { Counter } from 'prom-client';
import { DepartedLogsRepository } from './departed-logs.repository.js';

const FORGET_EVERY_MS = 60 * 60_000;

/** Keeps what replicas have said last, when the engine is about to forget it. */
@Injectable()
export class LogKeeper implements OnApplicationBootstrap, OnApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly departed: DepartedLogsRepository,
    orchestrator: Orchestrator,
    { registry }: Metrics,
    @InjectPinoLogger(LogKeeper.name) private readonly logger: PinoLogger,
  ) {
    const { departures } = orchestrator;
    departures.keepWith((words) => this.departed.keep(words));
    const leftOut = new Counter({
      name: 'faas_departed_logs_left_out_total',
      help: 'Logs of replicas that went before anybody had read or written them.',
      registers: [registry],
    });
    departures.onLeftOut = () => leftOut.inc();
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.forget(), FORGET_EVERY_MS).unref();
    void this.forget();
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  private async forget(): Promise<void> {
    await this.departed
      .forgetOld()
      .catch((error: unknown) => this.logger.debug({ err: error }, 'forgetting old logs was put off'));
  }
}
