import { pino } from 'pino';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import {
  callOverHttp,
  type ContractHarness,
  describeOrchestratorContract,
} from '#libs/orchestrator/testing/contract.js';
import { accessCluster } from '#libs/orchestrator-kubernetes/cluster-access.js';
import { KubernetesOrchestrator } from '#libs/orchestrator-kubernetes/kubernetes.orchestrator.js';
import { whyNoControlPlane } from '../kubernetes/control-plane/shared.js';
import { OfferedLayers } from '../kubernetes/support/offered-layers.js';
import { SmallCluster } from '../kubernetes/support/small-cluster.js';
import { describeSkipped } from '../support/skipped.js';

// As the Role of k8s/functions allows it; test/kubernetes-cluster runs the same suite on a whole cluster.
const reason = whyNoControlPlane();
if (reason !== undefined) describeSkipped('orchestrator contract: kubernetes', reason);
else describeOrchestratorContract('kubernetes', harness, { deadlineMs: 30_000 });

async function harness(): Promise<ContractHarness> {
  const cluster = await SmallCluster.open();
  const config = cluster.configOf({ HPA_MAX_REPLICAS: '1' });
  const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
  const layers = await OfferedLayers.at(config.layers!.served!, logger);
  return {
    restartsByItself: true,
    offer: (layer) => layers.offer(layer),
    open: (owner) =>
      new KubernetesOrchestrator(config, owner, TEST_TOKENS, logger, accessCluster(cluster.kubeconfig, false)),
    shut: (orchestrator) => (orchestrator as KubernetesOrchestrator).close(),
    call: callOverHttp,
    kill: async (_functionId, replica) => {
      const killed = await cluster.node.kill(replica.split('/', 1)[0] ?? replica);
      if (killed === 0) throw new Error(`There is no container of ${replica}.`);
    },
    close: async () => {
      layers.close();
      await cluster.close();
    },
  };
}
