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
import { OfferedLayers } from '../../kubernetes/support/offered-layers.js';
import { freePort } from '../../support/http.js';
import type { TestCluster } from './cluster.js';
import { CLUSTER_IMAGES } from './images.js';

/** Where pods of the cluster reach this machine, which has their packages; unset: nowhere. */
export const LAYERS_HOST = process.env['LAYERS_HOST'] || undefined;

async function configOf(cluster: TestCluster): Promise<KubernetesConfig> {
  const kubeconfig = join(mkdtempSync(join(tmpdir(), 'faas-kube-')), 'config');
  writeFileSync(kubeconfig, await cluster.managerConfig(), { mode: 0o600 });
  return loadConfig({
    KUBECONFIG: kubeconfig,
    KUBERNETES_NAMESPACE: cluster.namespace,
    KUBERNETES_REACH: 'pod',
    HPA_MAX_REPLICAS: '1',
    WORKER_IMAGE: CLUSTER_IMAGES.worker,
    ...(LAYERS_HOST !== undefined && (await layersAt(LAYERS_HOST))),
  }).orchestrator.kubernetes;
}

async function layersAt(host: string): Promise<Record<'LAYERS_ADDR' | 'LAYERS_URL', string>> {
  const place = `${host.includes(':') ? `[${host}]` : host}:${await freePort()}`;
  return { LAYERS_ADDR: place, LAYERS_URL: `http://${place}` };
}

export async function clusterHarness(cluster: TestCluster): Promise<ContractHarness> {
  const config = await configOf(cluster);
  const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
  const served = config.layers?.served;
  const layers = served && (await OfferedLayers.at(served, logger));
  return {
    restartsByItself: true,
    offer: (layer) => layers?.offer(layer),
    open: (owner) =>
      new KubernetesOrchestrator(config, owner, TEST_TOKENS, logger, accessCluster(config.kubeconfig, false)),
    shut: (orchestrator) => (orchestrator as KubernetesOrchestrator).close(),
    call: callIfReachable,
    kill: async (_functionId, replica) => {
      const containerId = replica.split('/')[1] ?? '';
      if (!(await (await cluster.reaper()).kill(containerId))) throw new Error(`Nothing of ${containerId} runs.`);
    },
    close: async () => {
      layers?.close();
      await cluster.close();
    },
  };
}
