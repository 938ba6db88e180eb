import { Global, Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { AccessGuard } from './access.guard.js';
import { Access } from './access.js';

@Global()
@Module({ providers: [Access, { provide: APP_GUARD, useClass: AccessGuard }], exports: [Access] })
export class AccessModule {}
