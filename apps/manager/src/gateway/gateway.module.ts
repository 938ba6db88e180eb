import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { ScalingModule } from '../scaling/scaling.module.js';
import { CallEnds } from './call-ends.js';
import { CallMetrics } from './call-metrics.js';
import { DemandRecorder } from './demand.recorder.js';
import { ExecutionController } from './execution.controller.js';
import { ExecutionHttp } from './execution.http.js';
import { HttpCallsController } from './http-calls.controller.js';
import { HttpCalls } from './http-calls.js';
import { Invoker } from './invoker.js';
import { LoadGauges } from './load-gauges.js';
import { PostMortem } from './post-mortem.js';
import { Router } from './router.js';
import { WebSockets } from './web-sockets.js';

@Module({
  imports: [FunctionsModule, ScalingModule],
  controllers: [ExecutionController, HttpCallsController],
  providers: [
    Router,
    CallEnds,
    CallMetrics,
    LoadGauges,
    PostMortem,
    DemandRecorder,
    Invoker,
    ExecutionHttp,
    HttpCalls,
    WebSockets,
  ],
  exports: [ExecutionHttp, HttpCalls, Invoker, Router, CallEnds, CallMetrics, WebSockets],
})
export class GatewayModule {}
