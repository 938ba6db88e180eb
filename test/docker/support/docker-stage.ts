import { once } from 'node:events';
import { connect } from 'node:net';
import { callOverHttp } from '#libs/orchestrator/testing/contract.js';
import { type ContractHarness, Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { LABEL } from '#libs/orchestrator-docker/labels.js';
import type { DockerOrchestrator } from '#libs/orchestrator-docker/docker.orchestrator.js';
import type Docker from 'dockerode';
import type { EndpointAddress } from '#libs/orchestrator/workload.js';
import type { DockerConfig } from '#libs/config/config.js';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { docker, openDocker, removeNetwork } from './docker-tests.js';

const CONNECT_TIMEOUT_MS = 2_000;

export function dockerHarness(config: DockerConfig, connect: () => Docker = connectDocker): ContractHarness {
  return {
    open: (owner) => openDocker(config, owner, connect()),
    shut: (orchestrator) => (orchestrator as DockerOrchestrator).close(),
    call: async (address, payload, signal) => {
      await reachable(address);
      return callOverHttp(address, payload, signal);
    },
    kill: (_functionId, replica) => docker.getContainer(replica).kill(),
    close: () => removeNetwork(config.network),
  };
}

/** The address of a container that is gone swallows what is sent to it: only a deadline of one's own tells. */
async function reachable(address: EndpointAddress): Promise<void> {
  const target = address.kind === 'tcp' ? { host: address.host, port: address.port } : { path: address.path };
  const socket = connect(target);
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
  } finally {
    socket.on('error', () => undefined).destroy();
  }
}

/** One test's managers and functions on the real engine. */
export function dockerStage(config: DockerConfig, connect?: () => Docker): Stage {
  return new Stage(dockerHarness(config, connect), { deadlineMs: 30_000 });
}

export async function endStage(stage: Stage): Promise<void> {
  await stage.close();
  await stage.harness.close();
}

export function python(source: string, functionName = 'handle') {
  return { functionName, source };
}

/** Everything of one owner on the engine. */
export function containersOf(owner: string) {
  return docker.listContainers({ all: true, filters: { label: [`${LABEL.owner}=${owner}`] } });
}

export async function volumeNames(): Promise<string[]> {
  const { Volumes } = await docker.listVolumes();
  return Volumes.map(({ Name }) => Name);
}

export async function anonymousVolumes(): Promise<string[]> {
  return (await volumeNames()).filter((name) => /^[0-9a-f]{64}$/.test(name));
}
