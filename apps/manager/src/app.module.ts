import type { Config } from '#libs/config/config.js';
import { ConfigModule } from '#libs/config/config.module.js';
import { DatabaseModule } from '#libs/database/database.module.js';
import { ProblemFilter } from '#libs/errors/problem.filter.js';
import { LoggingModule } from '#libs/observability/logging.module.js';
import { MetricsModule } from '#libs/observability/metrics.js';
import { type DynamicModule, Module } from '@nestjs/common';
import { APP_FILTER, APP_INTERCEPTOR } from '@nestjs/core';
import type { Logger } from 'pino';
import { MemoryModule } from './memory/memory.module.js';
import { AuthModule } from './auth/auth.module.js';
import { GatewayModule } from './gateway/gateway.module.js';
import { FunctionEntity } from './functions/function.entity.js';
import { FunctionsModule } from './functions/functions.module.js';
import { RevisionsModule } from './revisions/revisions.module.js';
import { TrafficModule } from './traffic/traffic.module.js';
import { RevisionEntity } from './revisions/revision.entity.js';
import { HistoryModule } from './history/history.module.js';
import { HealthModule } from './health/health.module.js';
import { InvocationsModule } from './invocations/invocations.module.js';
import { KnownParameters } from './http/query.js';
import { LogsModule } from './logs/logs.module.js';
import { ScrapeModule } from './metrics/scrape.module.js';
import { RunsModule } from './runs/runs.module.js';
import { SchedulesModule } from './schedules/schedules.module.js';
import { SecretsModule } from './secrets/secrets.module.js';
import { ReconcilerModule } from './reconciler/reconciler.module.js';

@Module({})
export class AppModule {
  static forRoot(config: Config, databaseUrl: string, logger: Logger): DynamicModule {
    return {
      module: AppModule,
      imports: [
        ConfigModule.forRoot(config),
        LoggingModule.forRoot(logger),
        MetricsModule,
        DatabaseModule.forRoot({
          url: databaseUrl,
          poolSize: config.database.poolSize,
          entities: [FunctionEntity, RevisionEntity],
          logger,
        }),
        AuthModule,
        MemoryModule,
        FunctionsModule,
        RevisionsModule,
        TrafficModule,
        SecretsModule,
        GatewayModule,
        RunsModule,
        HistoryModule,
        InvocationsModule,
        SchedulesModule,
        LogsModule,
        ReconcilerModule,
        HealthModule,
        ScrapeModule,
      ],
      providers: [
        { provide: APP_FILTER, useClass: ProblemFilter },
        { provide: APP_INTERCEPTOR, useClass: KnownParameters },
      ],
    };
  }
}
