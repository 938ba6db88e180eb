import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { GatewayModule } from '../gateway/gateway.module.js';
import { HistoryModule } from '../history/history.module.js';
import { RunLog } from './run-log.js';
import { RunsController } from './runs.controller.js';
import { RunsService } from './runs.service.js';

@Module({
  imports: [FunctionsModule, GatewayModule, HistoryModule],
  controllers: [RunsController],
  providers: [RunLog, RunsService],
})
export class RunsModule {}
