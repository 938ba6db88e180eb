import type { OrchestratorConfig } from '#libs/config/config.js';
import { ORCHESTRATOR_CONFIG } from '#libs/config/config.module.js';
import { LOGGER } from '#libs/observability/logging.module.js';
import { createDockerOrchestrator } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { ProcessOrchestrator } from '#libs/orchestrator-process/process.orchestrator.js';
import { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import { Global, Module } from '@nestjs/common';
import type { Logger } from 'pino';
import { FunctionRepository } from '../functions/function.repository.js';
import { FunctionsModule } from '../functions/functions.module.js';
import { chooseEngine, isInsideKubernetes } from './choose-engine.js';

const DOCKER_PROBE_MS = 3_000;

/** Chooses the provider, once, at boot. The only place that names concrete providers. */
@Global()
@Module({
  imports: [FunctionsModule],
  providers: [
    {
      provide: Orchestrator,
      inject: [ORCHESTRATOR_CONFIG, FunctionRepository, LOGGER],
      useFactory: createOrchestrator,
    },
  ],
  exports: [Orchestrator],
})
export class OrchestratorModule {}

async function createOrchestrator(
  config: OrchestratorConfig,
  repository: FunctionRepository,
  logger: Logger,
): Promise<Orchestrator> {
  const owner = await repository.installationId();
  let connected: Orchestrator | undefined;
  const docker = () => (connected ??= createDockerOrchestrator(config.docker, owner, logger, config.pool));
  const { engine, reason } = await chooseEngine({
    configured: config.engine,
    insideKubernetes: isInsideKubernetes(),
    dockerFault: () => faultOf(docker()),
  });
  logger.info({ engine, reason }, 'engine chosen');
  switch (engine) {
    case 'docker':
      return docker();
    case 'process':
      logger.warn(
        'functions run as plain processes of this machine: for development only, they are not isolated as in containers',
      );
      return new ProcessOrchestrator(config.process, owner, logger, config.pool);
    case 'kubernetes':
      throw new Error('This version has no Kubernetes provider yet: set DEPLOYMENT_ENV to docker or process.');
  }
}

async function faultOf(orchestrator: Orchestrator): Promise<string | undefined> {
  try {
    await orchestrator.ping(AbortSignal.timeout(DOCKER_PROBE_MS));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
