import { Module } from '@nestjs/common';
import { FunctionChanges } from './function-changes.js';
import { FunctionRepository } from './function.repository.js';
import { FunctionsController } from './functions.controller.js';
import { FunctionsService } from './functions.service.js';

@Module({
  controllers: [FunctionsController],
  providers: [FunctionRepository, FunctionChanges, FunctionsService],
  exports: [FunctionRepository, FunctionChanges],
})
export class FunctionsModule {}
