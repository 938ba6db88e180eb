import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { GatewayModule } from '../gateway/gateway.module.js';
import { InvocationsModule } from '../invocations/invocations.module.js';
import { ScheduleMetrics } from './schedule-metrics.js';
import { ScheduleRepository } from './schedule.repository.js';
import { Scheduler } from './scheduler.js';
import { SchedulesController } from './schedules.controller.js';
import { SchedulesService } from './schedules.service.js';

@Module({
  imports: [FunctionsModule, GatewayModule, InvocationsModule],
  controllers: [SchedulesController],
  providers: [ScheduleRepository, ScheduleMetrics, SchedulesService, Scheduler],
})
export class SchedulesModule {}
