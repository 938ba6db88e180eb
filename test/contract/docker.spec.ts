import { callOverHttp, describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';
import type { DockerOrchestrator } from '#libs/orchestrator-docker/docker.orchestrator.js';
import { describe, it } from 'vitest';
import {
  docker,
  openDocker,
  removeNetwork,
  testConfig,
  whyNoDocker,
  WORKER_IMAGE,
} from '../docker/support/docker-tests.js';

const reason = await whyNoDocker(WORKER_IMAGE);
if (reason !== undefined) describe.skip(`orchestrator contract: docker (${reason})`, () => it('is skipped', () => {}));
else {
  describeOrchestratorContract(
    'docker',
    () => {
      const config = testConfig();
      return {
        open: (owner) => openDocker(config, owner),
        shut: (orchestrator) => (orchestrator as DockerOrchestrator).close(),
        call: callOverHttp,
        kill: (_functionId, replica) => docker.getContainer(replica).kill(),
        close: () => removeNetwork(config.network),
      };
    },
    { deadlineMs: 30_000 },
  );
}
