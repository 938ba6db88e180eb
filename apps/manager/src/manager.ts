import type { Config } from '#libs/config/config.js';
import { orGiveUp } from '#libs/deadlines/within.js';
import { DatabaseServer } from '#libs/database/database-server.js';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter, type NestExpressApplication } from '@nestjs/platform-express';
import express from 'express';
import { Logger as NestLogger } from 'nestjs-pino';
import type { AddressInfo } from 'node:net';
import cluster from 'node:cluster';
import { setTimeout as delay } from 'node:timers/promises';
import type { Server } from 'node:http';
import type { Logger } from 'pino';
import { MemoryBudget } from './memory/memory-budget.js';
import { AppModule } from './app.module.js';
import { Access } from './auth/access.js';
import { Attempts } from './auth/attempts.js';
import { unframed } from './http/unframed.js';
import { ExecutionHttp } from './gateway/execution.http.js';
import { HttpCalls } from './gateway/http-calls.js';
import { WebSockets } from './gateway/web-sockets.js';
import { GracefulShutdown } from './http/graceful-shutdown.js';
import { Indicators } from './health/indicators.js';
import { openApiDocument } from './openapi-document.js';
import { ReconcileLoop } from './reconciler/reconcile.loop.js';
import { NewestSettings } from './reconciler/newest-settings.js';
import { Dispatcher } from './invocations/dispatcher.js';
import { InvocationsHttp } from './invocations/invocations.http.js';
import { LogsService } from './logs/logs.service.js';
import { allowOrigins } from './http/cors.js';
import { serveDocs } from './http/docs.js';
import { callsAhead, createHttpServer, listen, publicAhead } from './http/server.js';

/** How long closed connections may take to be gone. */
const CUT_MS = 2_000;
/** How long the parts of the application may take, and the connections to the database after them. */
const CLOSE_MS = 18_000;
/** An embedded database writes everything to disk first. */
const DATABASE_MS = 30_000;

/** One running manager: its HTTP server, its application and, where there is no other, its database. */
export class Manager {
  private constructor(
    private readonly config: Config,
    private readonly logger: Logger,
    private readonly database: DatabaseServer,
    private readonly app: NestExpressApplication,
    private readonly server: Server,
    private readonly shutdown: GracefulShutdown,
  ) {}

  static async start(config: Config, logger: Logger): Promise<Manager> {
    const database = await DatabaseServer.open(config.database, logger);
    try {
      const handler = express().use(unframed);
      const app = await NestFactory.create<NestExpressApplication>(
        AppModule.forRoot(config, database.url, logger),
        new ExpressAdapter(handler),
        { bodyParser: false, bufferLogs: true, abortOnError: false },
      );
      app.useLogger(app.get(NestLogger));
      app.disable('x-powered-by');
      serveDocs(app, () => openApiDocument(app));
      await app.init();
      const shutdown = new GracefulShutdown();
      const calls = app.get(HttpCalls);
      const all = callsAhead(app.get(ExecutionHttp), calls, app.get(InvocationsHttp), app.get(Access), handler);
      const listener = publicAhead(calls, allowOrigins(config.auth.origins, all));
      const server = createHttpServer(shutdown.wrap(listener), config.server, app.get(MemoryBudget), {
        mayUpgrade: (request) => calls.targetOf(request) !== undefined,
      });
      shutdown.watch(server);
      await listen(server, config.server);
      const own = cluster.worker;
      await app.get(NewestSettings).begin(own === undefined || own.id <= config.server.processes);
      return new Manager(config, logger, database, app, server, shutdown);
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /**
   * Turns unready, lets calls in flight finish, then closes everything. Workers go on running. A part that doesn't end
   * in its time is given up and named in the log: no engine, database, worker or client can keep a manager from ending.
   */
  async stop(): Promise<void> {
    this.app.get(Indicators).shutDown();
    this.app.get(ReconcileLoop).withdraw();
    const dispatcher = this.app.get(Dispatcher);
    dispatcher.withdraw();
    this.app.get(NewestSettings).withdraw();
    this.app.get(Attempts).release();
    this.app.get(LogsService).release();
    this.shutdown.begin();
    this.logger.info('shutting down');
    await delay(this.config.server.shutdownDelayMs);
    await this.shutdown.lastConnections();
    const { drainTimeoutMs } = this.config.server;
    this.app.get(WebSockets).leave();
    await orGiveUp('connections', drainTimeoutMs + CUT_MS, this.logger, async () => {
      await Promise.all([this.shutdown.drain(this.server, drainTimeoutMs), dispatcher.drain(drainTimeoutMs)]);
    });
    await orGiveUp('the application', CLOSE_MS, this.logger, () => this.app.close());
    await orGiveUp('the database server', DATABASE_MS, this.logger, () => this.database.close());
    this.logger.info('stopped');
  }
}
