import {
  type DynamicModule,
  Inject,
  Module,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
} from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Logger } from 'pino';
import { dataSourceOptions, type DataSourceSettings, openDataSource } from './data-source.js';
import { Database } from './database.js';
import { Notifications } from './notifications.js';

/** Everything that speaks to PostgreSQL: the data source, the notification session, the translation of their faults. */
@Module({})
export class DatabaseModule implements OnApplicationBootstrap, OnApplicationShutdown {
  static forRoot(settings: DataSourceSettings & { readonly logger: Logger }): DynamicModule {
    const { url, logger } = settings;
    return {
      module: DatabaseModule,
      global: true,
      imports: [
        TypeOrmModule.forRootAsync({
          useFactory: () => ({ ...dataSourceOptions(settings), retryAttempts: 0 }),
          dataSourceFactory: () => openDataSource(dataSourceOptions(settings), logger),
        }),
      ],
      providers: [Database, { provide: Notifications, useFactory: () => new Notifications(url, logger) }],
      exports: [Database, Notifications],
    };
  }

  constructor(@Inject(Notifications) private readonly notifications: Notifications) {}

  onApplicationBootstrap(): void {
    this.notifications.start();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.notifications.close();
  }
}
