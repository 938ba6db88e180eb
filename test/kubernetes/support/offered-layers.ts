import type { Logger } from 'pino';
import type { ServedLayers } from '#libs/config/config.js';
import { LayerServer } from '#libs/orchestrator/layer-server.js';
import type { Layer } from '#libs/orchestrator/layers.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';

/** The port of a manager for layers, with those of a test in place of a database. */
export class OfferedLayers {
  private server!: LayerServer;
  private readonly layers = new Map<string, Layer>();

  static async at(place: ServedLayers, logger: Logger): Promise<OfferedLayers> {
    const offered = new OfferedLayers();
    offered.server = await LayerServer.listen(place, TEST_TOKENS, (digest) => offered.find(digest), logger);
    return offered;
  }

  offer(layer: Layer): void {
    this.layers.set(layer.digest, layer);
  }

  close(): void {
    this.server.close();
  }

  private find(digest: string): Layer {
    const layer = this.layers.get(digest);
    if (layer === undefined) throw new Error(`There is no layer ${digest}.`);
    return layer;
  }
}
