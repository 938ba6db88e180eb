// A manager that is killed. Its argument: engine, configuration and owner. Says "filled" when its pool is, then does
// the workload that it is told on stdin and says "done".
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { WorkerTokens } from '#libs/orchestrator/worker-tokens.js';

const { engine, config, owner, pool } = JSON.parse(process.argv[2]);
// As those of the managers in the tests, which go on where this one ends.
const tokens = new WorkerTokens(Buffer.alloc(32, 'test'));
let filled = 0;
const logger = pino({ level: 'debug' }, { write: (line) => (filled += Number(line.includes('generic worker ready'))) });
// Only what it uses is loaded, which takes longer than all else that it does.
const open = {
  docker: async () => {
    const { connectDocker } = await import('#libs/orchestrator-docker/create-docker-orchestrator.js');
    const { DockerOrchestrator } = await import('#libs/orchestrator-docker/docker.orchestrator.js');
    return new DockerOrchestrator(config, owner, tokens, logger, connectDocker(), pool);
  },
  kubernetes: async () => {
    const { accessCluster } = await import('#libs/orchestrator-kubernetes/cluster-access.js');
    const { KubernetesOrchestrator } = await import('#libs/orchestrator-kubernetes/kubernetes.orchestrator.js');
    const cluster = accessCluster(config.kubeconfig, config.insideCluster);
    return new KubernetesOrchestrator(config, owner, tokens, logger, cluster, pool);
  },
  process: async () => {
    const { ProcessOrchestrator } = await import('#libs/orchestrator-process/process.orchestrator.js');
    return new ProcessOrchestrator(config, owner, tokens, logger, pool);
  },
};
const orchestrator = await open[engine]();
void orchestrator.watch(() => undefined, new AbortController().signal);
await orchestrator.ping(AbortSignal.timeout(60_000));
while (filled < pool.size) await delay(10);
process.stdout.write('filled\n');
for await (const line of createInterface({ input: process.stdin })) {
  const workload = JSON.parse(line);
  await orchestrator.ensure({ ...workload, code: Buffer.from(workload.code, 'base64') }, AbortSignal.timeout(60_000));
  process.stdout.write('done\n');
}
