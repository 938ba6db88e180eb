import type { DockerConfig } from '#libs/config/config.js';
import { LABEL } from '#libs/orchestrator-docker/labels.js';
import { containersOf, dockerHarness, genericWorkers } from '../../docker/support/docker-stage.js';
import { docker, POOL, testConfig } from '../../docker/support/docker-tests.js';
import type { PoolSite } from './pool-site.js';

/** A container keeps its id when it is given a function. */
export function dockerPool(): PoolSite & { readonly config: DockerConfig } {
  const config = testConfig();
  const waiting = async (owner: string) => (await genericWorkers(config, owner)).map(({ id }) => id);
  return {
    config,
    harness: dockerHarness(config, undefined, POOL),
    waiting,
    remains: async (owner) => {
      const { Volumes: claims } = await docker.listVolumes({
        filters: { label: [`${LABEL.claim}=${owner}`] },
      } as object);
      const containers = await containersOf(owner);
      return [
        ...containers.map(({ Names, State }) => `container ${Names[0]} (${State})`),
        ...claims.map(({ Name }) => `volume ${Name}`),
      ];
    },
    memberOf: (replica) => replica,
    killWaiting: async (owner) => {
      for (const id of await waiting(owner)) await docker.getContainer(id).kill();
    },
    victim: { engine: 'docker', config, pool: POOL },
  };
}
