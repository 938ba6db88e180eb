import type { Logger } from 'pino';
import type { KubernetesConfig, PoolConfig } from '#libs/config/config.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import { accessCluster } from './cluster-access.js';
import { KubernetesOrchestrator } from './kubernetes.orchestrator.js';

/** The provider on the cluster that the configuration names or that this process runs in. Throws `NoCluster`. */
export function createKubernetesOrchestrator(
  config: KubernetesConfig,
  owner: string,
  tokens: WorkerTokens,
  logger: Logger,
  pool: PoolConfig,
): KubernetesOrchestrator {
  const access = accessCluster(config.kubeconfig, config.insideCluster);
  logger.info({ server: access.server, namespace: config.namespace }, 'cluster found');
  return new KubernetesOrchestrator(config, owner, tokens, logger, access, pool);
}
