import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { Exec } from '@kubernetes/client-node';
import { pino } from 'pino';
import { loadConfig } from '#libs/config/load-config.js';
import type { KubernetesConfig } from '#libs/config/config.js';
import { callOverHttp, type ContractHarness } from '#libs/orchestrator/testing/contract.js';
import type { EndpointAddress } from '#libs/orchestrator/workload.js';
import { accessCluster } from '#libs/orchestrator-kubernetes/cluster-access.js';
import { KubernetesOrchestrator } from '#libs/orchestrator-kubernetes/kubernetes.orchestrator.js';
import type { TestCluster } from './cluster.js';
import { CLUSTER_IMAGES } from './images.js';

const CONNECT_TIMEOUT_MS = 2_000;

/** `WORKER_IMAGE` names the worker's image as the cluster's nodes know it. */
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
    open: (owner) => new KubernetesOrchestrator(config, owner, logger, accessCluster(config.kubeconfig, false)),
    shut: (orchestrator) => (orchestrator as KubernetesOrchestrator).close(),
    call: async (address, payload, signal) => {
      await reachable(address);
      return callOverHttp(address, payload, signal);
    },
    kill: (_functionId, replica) => terminate(cluster, replica.split('/', 1)[0] ?? replica),
    close: () => cluster.close(),
  };
}

/** From inside nothing can kill a container's first process, but it does end when asked to. */
async function terminate(cluster: TestCluster, pod: string): Promise<void> {
  const nowhere = new PassThrough().resume();
  const command = ['python3', '-c', 'import os, signal; os.kill(1, signal.SIGTERM)'];
  const socket = await new Exec(cluster.admin).exec(
    cluster.namespace,
    pod,
    'worker',
    command,
    nowhere,
    nowhere,
    null,
    false,
  );
  await once(socket, 'close');
}

/** The address of a pod that is gone swallows what is sent to it: only a deadline of one's own tells. */
async function reachable(address: EndpointAddress): Promise<void> {
  const target = address.kind === 'tcp' ? { host: address.host, port: address.port } : { path: address.path };
  const socket = connect(target);
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
  } finally {
    socket.on('error', () => undefined).destroy();
  }
}
