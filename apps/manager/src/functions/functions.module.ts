import { Module } from '@nestjs/common';
import { FunctionBus } from './function-bus.js';
import { InlineReconciler, StepSlots } from './inline-reconciler.js';
import { FunctionChanges } from './function-changes.js';
import { FunctionRepository } from './function.repository.js';
import { FunctionsController } from './functions.controller.js';
import { FunctionsService } from './functions.service.js';

@Module({
  controllers: [FunctionsController],
  providers: [FunctionRepository, FunctionChanges, FunctionBus, StepSlots, InlineReconciler, FunctionsService],
  exports: [FunctionRepository, FunctionChanges, FunctionBus, StepSlots, InlineReconciler],
})
export class FunctionsModule {}
