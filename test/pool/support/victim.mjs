// A manager that is killed. Its argument: engine, configuration and owner. Says "filled" when its pool is, then does
// the workload that it is told on stdin and says "done".
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { DockerOrchestrator } from '#libs/orchestrator-docker/docker.orchestrator.js';
import { accessCluster } from '#libs/orchestrator-kubernetes/cluster-access.js';
import { KubernetesOrchestrator } from '#libs/orchestrator-kubernetes/kubernetes.orchestrator.js';
import { ProcessOrchestrator } from '#libs/orchestrator-process/process.orchestrator.js';

const { engine, config, owner, pool } = JSON.parse(process.argv[2]);
let filled = 0;
const logger = pino({ level: 'debug' }, { write: (line) => (filled += Number(line.includes('generic worker ready'))) });
const open = {
  docker: () => new DockerOrchestrator(config, owner, logger, connectDocker(), pool),
  kubernetes: () =>
    new KubernetesOrchestrator(config, owner, logger, accessCluster(config.kubeconfig, config.insideCluster), pool),
  process: () => new ProcessOrchestrator(config, owner, logger, pool),
};
const orchestrator = open[engine]();
void orchestrator.watch(() => undefined, new AbortController().signal);
await orchestrator.ping(AbortSignal.timeout(60_000));
while (filled < pool.size) await delay(10);
process.stdout.write('filled\n');
for await (const line of createInterface({ input: process.stdin })) {
  const workload = JSON.parse(line);
  await orchestrator.ensure({ ...workload, code: Buffer.from(workload.code, 'base64') }, AbortSignal.timeout(60_000));
  process.stdout.write('done\n');
}
