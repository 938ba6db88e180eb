import { pino } from 'pino';
import type { DockerConfig } from '#libs/config/config.js';
import { loadConfig } from '#libs/config/load-config.js';
import { connectDocker } from './create-docker-orchestrator.js';
import { DockerEngine } from './docker-engine.js';
import { buildNetworkOf } from './docker-layers.js';
import { shellScript } from './rule-scripts.js';
import { families } from './packet-filter.js';
import { bridgeOf, policyOf } from './worker-firewall.js';
import { WorkerNetwork } from './worker-network.js';

/**
 * Prints the commands that keep workers, and builds of packages, from the engine's machine, for those who run the manager
 * without that right.
 */
const { docker } = loadConfig(process.env).orchestrator;
const engine = new DockerEngine(connectDocker());
const logger = pino({ level: 'silent' });

/** Made if there is none. */
function networkOf(config: DockerConfig): WorkerNetwork {
  return new WorkerNetwork(engine, { ...config, firewall: { ...config.firewall, mode: 'off' } }, logger);
}

async function rulesOf(config: DockerConfig) {
  return { bridge: bridgeOf(await networkOf(config).inspect()), policy: await policyOf(config) };
}

const { layers } = docker;
const builds = layers && (await buildNetworkOf(docker, layers, await networkOf(docker).ready()));
const networks = [await rulesOf(docker), ...(builds === undefined ? [] : [await rulesOf(builds)])];
process.stdout.write(shellScript(networks, families()));
