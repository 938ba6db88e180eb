import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { inspect } from 'node:util';
import Docker from 'dockerode';
import type { Logger } from 'pino';
import type { DockerConfig, PoolConfig } from '#libs/config/config.js';
import type { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';
import { DockerOrchestrator } from './docker.orchestrator.js';

const KEEP_ALIVE = { keepAlive: true, maxFreeSockets: 8 };

/**
 * The engine of this machine, or the one `DOCKER_HOST` (with `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`) names, over
 * kept connections.
 */
export function connectDocker(options: Docker.DockerOptions = {}): Docker {
  const docker = new Docker(options);
  const modem = docker.modem as { protocol?: string; agent?: HttpAgent };
  if (modem.protocol === 'https') modem.agent = briefly(new HttpsAgent(KEEP_ALIVE));
  else if (modem.protocol === 'http') modem.agent = briefly(new HttpAgent(KEEP_ALIVE));
  return docker;
}

/**
 * docker-modem writes out what it sends for its debug log, logged or not: with an agent that is all connections and
 * all that hangs on them, which takes longer than the request.
 */
function briefly<A extends HttpAgent>(agent: A): A {
  return Object.defineProperty(agent, inspect.custom, { value: () => 'Agent' });
}

export function createDockerOrchestrator(
  config: DockerConfig,
  owner: string,
  tokens: WorkerTokens,
  logger: Logger,
  pool: PoolConfig,
): DockerOrchestrator {
  return new DockerOrchestrator(config, owner, tokens, logger, connectDocker(), pool);
}
