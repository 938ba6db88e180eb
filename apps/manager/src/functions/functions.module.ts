import { Module } from '@nestjs/common';
import { CensusRepository } from './census.repository.js';
import { DemandRepository } from './demand.repository.js';
import { DirectSteps } from './direct-steps.js';
import { FunctionChanges } from './function-changes.js';
import { FunctionRepository } from './function.repository.js';
import { FunctionsController } from './functions.controller.js';
import { FunctionsService } from './functions.service.js';

@Module({
  controllers: [FunctionsController],
  providers: [FunctionRepository, DemandRepository, CensusRepository, FunctionChanges, DirectSteps, FunctionsService],
  exports: [FunctionRepository, DemandRepository, CensusRepository, FunctionChanges, DirectSteps],
})
export class FunctionsModule {}
