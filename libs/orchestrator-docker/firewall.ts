import { pino } from 'pino';
import { loadConfig } from '#libs/config/load-config.js';
import { connectDocker } from './create-docker-orchestrator.js';
import { DockerEngine } from './docker-engine.js';
import { shellScript } from './rule-scripts.js';
import { families } from './packet-filter.js';
import { bridgeOf, policyOf } from './worker-firewall.js';
import { WorkerNetwork } from './worker-network.js';

/** Prints the commands that keep workers from the engine's machine, for those who run the manager without that right. */
const { docker } = loadConfig(process.env).orchestrator;
const config = { ...docker, firewall: { ...docker.firewall, mode: 'off' as const } };
const network = new WorkerNetwork(new DockerEngine(connectDocker()), config, pino({ level: 'silent' }));
process.stdout.write(shellScript(bridgeOf(await network.inspect()), await policyOf(docker), families()));
