import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { FunctionGauges } from './function-gauges.js';
import { ScrapeController } from './scrape.controller.js';
import { Scrape } from './scrape.js';

@Module({ imports: [FunctionsModule], controllers: [ScrapeController], providers: [FunctionGauges, Scrape] })
export class ScrapeModule {}
