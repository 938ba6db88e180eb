import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { DepartedLogsRepository } from './departed-logs.repository.js';
import { LogKeeper } from './log-keeper.js';
import { LogsController } from './logs.controller.js';
import { LogsService } from './logs.service.js';

@Module({
  imports: [FunctionsModule],
  controllers: [LogsController],
  providers: [DepartedLogsRepository, LogKeeper, LogsService],
  exports: [LogsService],
})
export class LogsModule {}
