import { describe, it } from 'vitest';
import { describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';
import { dockerHarness } from '../docker/support/docker-stage.js';
import { testConfig, whyNoDocker, WORKER_IMAGE } from '../docker/support/docker-tests.js';

const reason = await whyNoDocker(WORKER_IMAGE);
if (reason !== undefined) describe.skip(`orchestrator contract: docker (${reason})`, () => it('is skipped', () => {}));
else describeOrchestratorContract('docker', () => dockerHarness(testConfig()), { deadlineMs: 30_000 });
