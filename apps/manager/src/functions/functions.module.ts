import { Module } from '@nestjs/common';
import { FunctionBus } from './function-bus.js';
import { InlineReconciler, StepSlots } from './inline-reconciler.js';
import { FunctionLock } from './function-lock.js';
import { FunctionChanges } from './function-changes.js';
import { FunctionRepository } from './function.repository.js';
import { FunctionsController } from './functions.controller.js';
import { FunctionsService } from './functions.service.js';
import { LayersModule } from '../layers/layers.module.js';
import { InstallationPolicy } from '../revisions/installation-policy.js';
import { RevisionRepository } from '../revisions/revision.repository.js';
import { TrafficRepository } from '../traffic/traffic.repository.js';

const PROVIDERS = [
  FunctionRepository,
  FunctionChanges,
  FunctionBus,
  StepSlots,
  InlineReconciler,
  FunctionsService,
  FunctionLock,
  RevisionRepository,
  TrafficRepository,
  InstallationPolicy,
];

@Module({
  imports: [LayersModule],
  controllers: [FunctionsController],
  providers: PROVIDERS,
  exports: [...PROVIDERS, LayersModule],
})
export class FunctionsModule {}
