import { Module } from '@nestjs/common';
import { CensusRepository } from './census.repository.js';
import { InlineReconciler } from './inline-reconciler.js';
import { FunctionChanges } from './function-changes.js';
import { FunctionRepository } from './function.repository.js';
import { FunctionsController } from './functions.controller.js';
import { FunctionsService } from './functions.service.js';

@Module({
  controllers: [FunctionsController],
  providers: [FunctionRepository, CensusRepository, FunctionChanges, InlineReconciler, FunctionsService],
  exports: [FunctionRepository, CensusRepository, FunctionChanges, InlineReconciler],
})
export class FunctionsModule {}
