import { Module } from '@nestjs/common';
import { LayerBuilder } from './layer-builder.js';
import { LayerCollector } from './layer-collector.js';
import { LayerPort } from './layer-port.js';
import { LayerRepository } from './layer.repository.js';
import { LayersService } from './layers.service.js';

@Module({
  providers: [LayerRepository, LayerBuilder, LayersService, LayerCollector, LayerPort],
  exports: [LayersService],
})
export class LayersModule {}
