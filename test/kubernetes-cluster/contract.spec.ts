import { describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';
import { TestCluster } from './support/cluster.js';
import { clusterConfig, clusterHarness } from './support/harness.js';

describeOrchestratorContract(
  'kubernetes',
  async () => {
    const cluster = await TestCluster.open();
    return clusterHarness(cluster, await clusterConfig(cluster));
  },
  { deadlineMs: 45_000 },
);
