import { describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';
import { dockerHarness } from '../docker/support/docker-stage.js';
import { POOL, testConfig, whyNoDocker, withLayers, WORKER_IMAGE } from '../docker/support/docker-tests.js';
import { describeSkipped } from '../support/skipped.js';

const reason = await whyNoDocker(WORKER_IMAGE);
const name = 'docker with a warm pool';
if (reason !== undefined) describeSkipped(`orchestrator contract: ${name}`, reason);
else
  describeOrchestratorContract(name, () => dockerHarness(withLayers(testConfig()), undefined, { ...POOL, size: 1 }), {
    deadlineMs: 30_000,
  });
