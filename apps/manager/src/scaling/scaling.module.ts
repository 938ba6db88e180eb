import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { Activator } from './activator.js';
import { Autoscaler } from './autoscaler.js';
import { DemandRepository } from './demand.repository.js';

@Module({
  imports: [FunctionsModule],
  providers: [DemandRepository, Activator, Autoscaler],
  exports: [DemandRepository, Activator, Autoscaler],
})
export class ScalingModule {}
