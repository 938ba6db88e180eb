import { Global, Module } from '@nestjs/common';
import { HeldBytes } from './held-bytes.js';

@Global()
@Module({ providers: [HeldBytes], exports: [HeldBytes] })
export class AdmissionModule {}
