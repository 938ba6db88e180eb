import { describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';
import { processHarness, WARM } from './support/process-harness.js';

describeOrchestratorContract('process', () => processHarness());
describeOrchestratorContract('process with a warm pool', () => processHarness({ ...WARM, size: 1 }), {
  deadlineMs: 30_000,
});
