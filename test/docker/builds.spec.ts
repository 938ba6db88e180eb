import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DockerConfig } from '#libs/config/config.js';
import type { PoolReport } from '#libs/orchestrator/orchestrator.js';
import type { Built, LayerEngine } from '#libs/orchestrator/layers.js';
import type { DockerOrchestrator } from '#libs/orchestrator-docker/docker.orchestrator.js';
import {
  BUILDER_IMAGE,
  docker,
  ignoreMissing,
  openDocker,
  removeNetwork,
  testConfig,
  whyNoDocker,
  withLayers,
  withoutWaiting,
} from './support/docker-tests.js';

/** Nothing to install, so that no index is needed. */
const NOTHING = { requirements: '', isLock: true, requiresPython: '' };
const WAIT = { timeout: 60_000, interval: 100 };

const reason = await whyNoDocker(BUILDER_IMAGE);

describe.skipIf(reason !== undefined)('Builds of packages on Docker', { timeout: 120_000 }, () => {
  let config: DockerConfig;
  let orchestrator: DockerOrchestrator;

  function open(changes: Partial<DockerConfig> = {}, offline = false): LayerEngine {
    const { layers, ...others } = withLayers(testConfig(changes));
    const image = BUILDER_IMAGE;
    const indexUrl = offline ? undefined : layers!.indexUrl;
    config = { ...others, layers: { ...layers!, image, indexUrl } };
    orchestrator = openDocker(config, config.network);
    return orchestrator.layers!;
  }

  async function build(layers: LayerEngine, during: () => unknown = () => undefined): Promise<Built> {
    const signal = AbortSignal.timeout(60_000);
    const keep = async (built: Built) => {
      await during();
      await buffer(await built.archive());
      return built;
    };
    return layers.build(NOTHING, () => undefined, keep, signal);
  }

  const containers = () => docker.listContainers({ all: true, filters: { name: [`^/faas-build-${config.network}-`] } });

  /** One that waits, and nothing else. */
  async function oneThatWaits(): Promise<string> {
    return vi.waitFor(async () => {
      const all = await containers();
      expect(await withoutWaiting(all)).toEqual([]);
      expect(all).toHaveLength(1);
      // It may answer before its manager has heard it.
      const { waiting } = orchestrator.layers as unknown as { readonly waiting: PoolReport };
      expect(waiting.counts().ready).toBe(1);
      // Nor may it have gone, and another one have its address.
      expect((await containers()).map(({ Id }) => Id)).toEqual([all[0]!.Id]);
      return all[0]!.Id;
    }, WAIT);
  }

  beforeEach(() => {
    open();
  });
  afterEach(async () => {
    await orchestrator.close();
    expect(await containers()).toEqual([]);
    for (const kind of ['', '-build', '-build-offline']) await removeNetwork(`${config.network}${kind}`);
    for (const kind of ['', '-cache'])
      await docker.getVolume(`${config.layers!.volume}${kind}`).remove().catch(ignoreMissing);
  });

  it('have no container that waits before there was any', async () => {
    await orchestrator.layers!.platform(AbortSignal.timeout(10_000));
    expect(await containers()).toEqual([]);
  });

  it('are done by the container that waited since the last one, which is used once', async () => {
    const layers = orchestrator.layers!;
    await build(layers);
    const first = await oneThatWaits();
    let used: string[] = [];
    await build(layers, async () => void (used = (await containers()).map(({ Id }) => Id)));
    expect(used).toEqual([first]);
    await vi.waitFor(async () => expect((await containers()).map(({ Id }) => Id)).not.toContain(first), WAIT);
  });

  it('are done by a new one where the one that waited was killed just now', async () => {
    const layers = orchestrator.layers!;
    await build(layers);
    await docker.getContainer(await oneThatWaits()).kill();
    expect(await build(layers)).toMatchObject({ files: 0 });
  });

  it('leave the containers of other managers alone while those wait', async () => {
    const layers = orchestrator.layers!;
    await build(layers);
    const kept = await oneThatWaits();
    const other = openDocker(config, config.network);
    const now = Date.now.bind(Date);
    // No build would have taken so long.
    const later = vi.spyOn(Date, 'now').mockImplementation(() => now() + 2 * config.layers!.timeoutMs + 90_000);
    try {
      await other.layers!.sweep(new Set(), AbortSignal.timeout(30_000));
      expect(await oneThatWaits()).toBe(kept);
    } finally {
      later.mockRestore();
      await other.close();
    }
  });

  it('are reached by a published port where that is how workers are', async () => {
    await orchestrator.close();
    expect(await build(open({ reach: 'published' }, true))).toMatchObject({ files: 0 });
    const { Internal } = await docker.getNetwork(`${config.network}-build`).inspect();
    expect(Internal).toBe(false);
  });

  it('have no way out where there is no index', async () => {
    await orchestrator.close();
    expect(await build(open({}, true))).toMatchObject({ files: 0 });
    const { Internal } = await docker.getNetwork(`${config.network}-build-offline`).inspect();
    expect(Internal).toBe(true);
  });
});
