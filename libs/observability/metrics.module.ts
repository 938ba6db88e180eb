import { Global, Module } from '@nestjs/common';
import { ColdStages } from './cold-stages.js';
import { Metrics } from './metrics.js';

@Global()
@Module({ providers: [ColdStages, Metrics], exports: [ColdStages, Metrics] })
export class MetricsModule {}
