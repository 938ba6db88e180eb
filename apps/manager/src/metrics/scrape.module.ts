import { Module } from '@nestjs/common';
import { FunctionsModule } from '../functions/functions.module.js';
import { Census } from './census.js';
import { ScrapeController } from './scrape.controller.js';
import { Scrape } from './scrape.js';

@Module({ imports: [FunctionsModule], controllers: [ScrapeController], providers: [Census, Scrape] })
export class ScrapeModule {}
