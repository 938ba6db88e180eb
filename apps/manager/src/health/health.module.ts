import { Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { HealthController } from './health.controller.js';
import { Indicators } from './indicators.js';
import { Lifecycle } from './lifecycle.js';

@Module({
  imports: [TerminusModule.forRoot({ logger: false })],
  controllers: [HealthController],
  providers: [Indicators, Lifecycle],
  exports: [Lifecycle],
})
export class HealthModule {}
