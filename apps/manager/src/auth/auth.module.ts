import type { ApiKey } from '#libs/config/api-keys.js';
import type { AuthConfig } from '#libs/config/config.js';
import { AUTH_CONFIG } from '#libs/config/config.module.js';
import { LOGGER } from '#libs/observability/logging.module.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Global, Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import type { Logger } from 'pino';
import { Access } from './access.js';
import { Attempts } from './attempts.js';
import { Audit } from './audit.js';
import { AuthGuard } from './auth.guard.js';
import { Authenticator } from './authenticator.js';
import { generatedKey } from './generated-key.js';

@Global()
@Module({
  providers: [
    Access,
    Attempts,
    Audit,
    {
      provide: Authenticator,
      inject: [AUTH_CONFIG, Orchestrator, LOGGER],
      useFactory: async (config: AuthConfig, { capabilities }: Orchestrator, logger: Logger) =>
        new Authenticator(await keysOf(config, capabilities.isolates, logger), config.disabled, config.origins),
    },
    { provide: APP_GUARD, useClass: AuthGuard },
  ],
  exports: [Access, Attempts, Audit],
})
export class AuthModule {}

/** Where handlers aren't isolated they share this machine's loopback with its users: requests must show a key there. */
async function keysOf(
  { keys, disabled, keyFile }: AuthConfig,
  isIsolated: boolean,
  logger: Logger,
): Promise<readonly ApiKey[]> {
  if (disabled || keys.length > 0 || isIsolated) return keys;
  const secret = await generatedKey(keyFile);
  logger.info({ file: keyFile }, 'no API key is configured: requests must show the one that this file holds');
  return [{ name: 'generated', scope: 'admin', secret }];
}
