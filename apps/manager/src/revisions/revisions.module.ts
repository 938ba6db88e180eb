import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { RevisionsController } from './revisions.controller.js';
import { TrafficModule } from '../traffic/traffic.module.js';
import { RevisionsService } from './revisions.service.js';

@Module({
  imports: [FunctionsModule, TrafficModule],
  controllers: [RevisionsController],
  providers: [RevisionsService],
})
export class RevisionsModule {}
