import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { TrafficController } from './traffic.controller.js';
import { TrafficService } from './traffic.service.js';

@Module({
  imports: [FunctionsModule],
  controllers: [TrafficController],
  providers: [TrafficService],
  exports: [TrafficService],
})
export class TrafficModule {}
