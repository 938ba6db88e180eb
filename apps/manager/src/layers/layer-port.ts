import type { LayersConfig } from '#libs/config/config.js';
import { LAYERS_CONFIG } from '#libs/config/config.module.js';
import { LOGGER } from '#libs/observability/logging.module.js';
import { LayerServer } from '#libs/orchestrator/layer-server.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import type { Logger } from 'pino';
import { LayersService } from './layers.service.js';

/** The port at which workers fetch their layers, on an engine where they do. */
@Injectable()
export class LayerPort implements OnApplicationBootstrap, OnApplicationShutdown {
  private server: LayerServer | undefined;

  constructor(
    private readonly layers: LayersService,
    private readonly orchestrator: Orchestrator,
    private readonly tokens: WorkerTokens,
    @Inject(LAYERS_CONFIG) private readonly config: LayersConfig,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    const { served } = this.config;
    if (served === undefined || this.orchestrator.capabilities.layers !== 'fetched') return;
    const layer = (digest: string) => this.layers.layer(digest);
    this.server = await LayerServer.listen(served, this.tokens, layer, this.logger);
    this.logger.info({ port: this.server.port, url: served.url }, 'layers are served to workers');
  }

  onApplicationShutdown(): void {
    this.server?.close();
  }
}
