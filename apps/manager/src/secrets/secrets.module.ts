import type { SecretsConfig } from '#libs/config/config.js';
import { SECRETS_CONFIG } from '#libs/config/config.module.js';
import { LOGGER } from '#libs/observability/logging.module.js';
import { Global, Module } from '@nestjs/common';
import type { Logger } from 'pino';
import { FunctionsModule } from '../functions/functions.module.js';
import { Keyring } from './keyring.js';
import { SecretRepository } from './secret.repository.js';
import { SecretRotation } from './secret.rotation.js';
import { SecretsController } from './secrets.controller.js';
import { SecretsService } from './secrets.service.js';

/** Everybody may have secrets, so functions needn't import it, and it may look at them. */
@Global()
@Module({
  imports: [FunctionsModule],
  controllers: [SecretsController],
  providers: [
    {
      provide: Keyring,
      inject: [SECRETS_CONFIG, LOGGER],
      useFactory: (config: SecretsConfig, logger: Logger) => Keyring.open(config, logger),
    },
    SecretRepository,
    SecretsService,
    SecretRotation,
  ],
  exports: [Keyring, SecretsService],
})
export class SecretsModule {}
