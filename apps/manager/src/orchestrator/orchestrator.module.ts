import type { Engine, OrchestratorConfig } from '#libs/config/config.js';
import { ORCHESTRATOR_CONFIG } from '#libs/config/config.module.js';
import { LOGGER } from '#libs/observability/logging.module.js';
import { ColdStartMetrics } from '#libs/observability/metrics.js';
import { Metrics } from '#libs/observability/metrics.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import { Global, Module } from '@nestjs/common';
import type { Logger } from 'pino';
import { chooseEngine } from './choose-engine.js';
import { InstallationRepository } from './installation.repository.js';
import { MeasuredOrchestrator } from './measured.orchestrator.js';
import { OPEN_ENGINE, type OpenEngine } from './open-engine.js';
import { measurePool } from './pool-metrics.js';

const DOCKER_PROBE_MS = 3_000;

/** Chooses the provider, once, at boot. The only place that names concrete providers. */
@Global()
@Module({
  providers: [
    InstallationRepository,
    {
      provide: WorkerTokens,
      inject: [InstallationRepository],
      useFactory: async (installation: InstallationRepository) => new WorkerTokens(await installation.workerKey()),
    },
    {
      provide: OPEN_ENGINE,
      inject: [ORCHESTRATOR_CONFIG, InstallationRepository, WorkerTokens, LOGGER],
      useFactory: engineOpener,
    },
    {
      provide: Orchestrator,
      inject: [ORCHESTRATOR_CONFIG, OPEN_ENGINE, Metrics, ColdStartMetrics, LOGGER],
      useFactory: createOrchestrator,
    },
  ],
  exports: [InstallationRepository, Orchestrator, OPEN_ENGINE, WorkerTokens],
})
export class OrchestratorModule {}

async function engineOpener(
  config: OrchestratorConfig,
  installation: InstallationRepository,
  tokens: WorkerTokens,
  logger: Logger,
): Promise<OpenEngine> {
  const owner = await installation.id();
  const opened = new Map<Engine, Promise<Orchestrator>>();
  return (engine) => {
    const known = opened.get(engine) ?? openEngine(engine, config, owner, tokens, logger);
    opened.set(engine, known);
    return known;
  };
}

/** Loads only the code of that engine: the Kubernetes client is a quarter of all code. */
async function openEngine(
  engine: Engine,
  config: OrchestratorConfig,
  owner: string,
  tokens: WorkerTokens,
  logger: Logger,
): Promise<Orchestrator> {
  switch (engine) {
    case 'docker': {
      const { createDockerOrchestrator } = await import('#libs/orchestrator-docker/create-docker-orchestrator.js');
      return createDockerOrchestrator(config.docker, owner, tokens, logger, config.pool);
    }
    case 'process': {
      const { ProcessOrchestrator } = await import('#libs/orchestrator-process/process.orchestrator.js');
      return new ProcessOrchestrator(config.process, owner, tokens, logger, config.pool);
    }
    case 'kubernetes': {
      const { createKubernetesOrchestrator } =
        await import('#libs/orchestrator-kubernetes/create-kubernetes-orchestrator.js');
      const pool = { ...config.pool, size: config.clusterPoolSize };
      return createKubernetesOrchestrator(config.kubernetes, owner, tokens, logger, pool);
    }
  }
}

async function createOrchestrator(
  config: OrchestratorConfig,
  open: OpenEngine,
  metrics: Metrics,
  coldStartMetrics: ColdStartMetrics,
  logger: Logger,
): Promise<Orchestrator> {
  const { engine, reason } = await chooseEngine({
    configured: config.engine,
    insideKubernetes: config.kubernetes.insideCluster,
    dockerFault: async () => faultOf(await open('docker')),
  });
  logger.info({ engine, reason }, 'engine chosen');
  const orchestrator = await open(engine);
  if (!orchestrator.capabilities.isolates) {
    logger.warn(
      'functions run as plain processes of this machine: for development only, they are not isolated as in containers',
    );
  }
  await orchestrator.secure();
  measurePool(orchestrator.warmPool, metrics, coldStartMetrics);
  return new MeasuredOrchestrator(orchestrator, metrics);
}

async function faultOf(orchestrator: Orchestrator): Promise<string | undefined> {
  try {
    await orchestrator.ping(AbortSignal.timeout(DOCKER_PROBE_MS));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
