import { describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';
import { dockerHarness } from '../docker/support/docker-stage.js';
import { testConfig, whyNoDocker, withLayers, WORKER_IMAGE } from '../docker/support/docker-tests.js';
import { describeSkipped } from '../support/skipped.js';

const reason = await whyNoDocker(WORKER_IMAGE);
if (reason !== undefined) describeSkipped('orchestrator contract: docker', reason);
else describeOrchestratorContract('docker', () => dockerHarness(withLayers(testConfig())), { deadlineMs: 30_000 });
