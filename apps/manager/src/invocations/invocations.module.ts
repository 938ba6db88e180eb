import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { GatewayModule } from '../gateway/gateway.module.js';
import { HistoryModule } from '../history/history.module.js';
import { LogsModule } from '../logs/logs.module.js';
import { AttemptRunner } from './attempt-runner.js';
import { CallbackSender } from './callback.sender.js';
import { Dispatcher } from './dispatcher.js';
import { InvocationKeeper } from './invocation.keeper.js';
import { InvocationMetrics } from './invocation-metrics.js';
import { InvocationRepository } from './invocation.repository.js';
import { InvocationSignals } from './invocation-signals.js';
import { InvocationStorage } from './invocation.storage.js';
import { InvocationsController } from './invocations.controller.js';
import { InvocationsHttp } from './invocations.http.js';
import { InvocationsService } from './invocations.service.js';

@Module({
  imports: [FunctionsModule, GatewayModule, HistoryModule, LogsModule],
  controllers: [InvocationsController],
  providers: [
    InvocationRepository,
    InvocationStorage,
    InvocationSignals,
    InvocationMetrics,
    InvocationsService,
    InvocationsHttp,
    AttemptRunner,
    Dispatcher,
    CallbackSender,
    InvocationKeeper,
  ],
  exports: [InvocationRepository, InvocationSignals, InvocationMetrics],
})
export class InvocationsModule {}
