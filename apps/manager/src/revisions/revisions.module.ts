import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { RevisionCollector } from './revision-collector.js';
import { RevisionsController } from './revisions.controller.js';
import { TrafficModule } from '../traffic/traffic.module.js';
import { RevisionsService } from './revisions.service.js';

@Module({
  imports: [FunctionsModule, TrafficModule],
  controllers: [RevisionsController],
  providers: [RevisionsService, RevisionCollector],
})
export class RevisionsModule {}
