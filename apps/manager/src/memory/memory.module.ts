import { Global, Module } from '@nestjs/common';
import { MemoryBudget } from './memory-budget.js';

@Global()
@Module({ providers: [MemoryBudget], exports: [MemoryBudget] })
export class MemoryModule {}
