import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { GatewayModule } from '../gateway/gateway.module.js';
import { HistoryController } from './history.controller.js';
import { HistoryKeeper } from './history.keeper.js';
import { HistoryMetrics } from './history-metrics.js';
import { HistoryRecorder } from './history.recorder.js';
import { HistoryRepository } from './history.repository.js';
import { HistoryService } from './history.service.js';
import { HistoryStorage } from './history.storage.js';

@Module({
  imports: [FunctionsModule, GatewayModule],
  controllers: [HistoryController],
  providers: [HistoryRepository, HistoryStorage, HistoryMetrics, HistoryKeeper, HistoryRecorder, HistoryService],
  exports: [HistoryService],
})
export class HistoryModule {}
