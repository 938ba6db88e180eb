import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { DemandRecorder } from './demand.recorder.js';
import { ExecutionController } from './execution.controller.js';
import { ExecutionHttp } from './execution.http.js';
import { ExecutionService } from './execution.service.js';
import { PostMortem } from './post-mortem.js';
import { Router } from './router.js';

@Module({
  imports: [FunctionsModule],
  controllers: [ExecutionController],
  providers: [Router, PostMortem, DemandRecorder, ExecutionService, ExecutionHttp],
  exports: [ExecutionHttp],
})
export class ExecutionModule {}
