import { describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';
import { TestCluster } from './support/cluster.js';
import { clusterHarness, LAYERS_HOST } from './support/harness.js';

describeOrchestratorContract('kubernetes', async () => clusterHarness(await TestCluster.open()), {
  deadlineMs: 45_000,
  whyNoLayers: LAYERS_HOST === undefined ? 'LAYERS_HOST doesn’t say where pods reach this machine' : undefined,
});
