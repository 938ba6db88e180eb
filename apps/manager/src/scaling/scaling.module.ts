import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { Autoscaler } from './autoscaler.js';
import { DemandRepository } from './demand.repository.js';

@Module({
  imports: [FunctionsModule],
  providers: [DemandRepository, Autoscaler],
  exports: [DemandRepository, Autoscaler],
})
export class ScalingModule {}
