import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { loadConfig } from '#libs/config/load-config.js';
import type { KubernetesConfig } from '#libs/config/config.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import { callIfReachable, type ContractHarness } from '#libs/orchestrator/testing/contract.js';
import { accessCluster } from '#libs/orchestrator-kubernetes/cluster-access.js';
import { KubernetesOrchestrator } from '#libs/orchestrator-kubernetes/kubernetes.orchestrator.js';
import type { TestCluster } from './cluster.js';
import { CLUSTER_IMAGES } from './images.js';

export async function clusterConfig(
  cluster: TestCluster,
  changes: Partial<KubernetesConfig> = {},
): Promise<KubernetesConfig> {
  const kubeconfig = join(mkdtempSync(join(tmpdir(), 'faas-kube-')), 'config');
  writeFileSync(kubeconfig, await cluster.managerConfig(), { mode: 0o600 });
  const { kubernetes } = loadConfig({
    KUBECONFIG: kubeconfig,
    KUBERNETES_NAMESPACE: cluster.namespace,
    KUBERNETES_REACH: 'pod',
    HPA_MAX_REPLICAS: '1',
    WORKER_IMAGE: CLUSTER_IMAGES.worker,
  }).orchestrator;
  return { ...kubernetes, ...changes };
}

export function clusterHarness(cluster: TestCluster, config: KubernetesConfig): ContractHarness {
  const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
  return {
    restartsByItself: true,
    open: (owner) =>
      new KubernetesOrchestrator(config, owner, TEST_TOKENS, logger, accessCluster(config.kubeconfig, false)),
    shut: (orchestrator) => (orchestrator as KubernetesOrchestrator).close(),
    call: callIfReachable,
    kill: async (_functionId, replica) => {
      const containerId = replica.split('/')[1] ?? '';
      if (!(await (await cluster.reaper()).kill(containerId))) throw new Error(`Nothing of ${containerId} runs.`);
    },
    close: () => cluster.close(),
  };
}
