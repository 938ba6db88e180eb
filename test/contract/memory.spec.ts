import { contractBehaviour } from '#libs/orchestrator/testing/contract.behaviour.js';
import { callOverHttp, describeOrchestratorContract } from '#libs/orchestrator/testing/contract.js';
import { MemoryOrchestrator } from '#libs/orchestrator/testing/memory.orchestrator.js';
import { MemoryWorld } from '#libs/orchestrator/testing/memory.world.js';

describeOrchestratorContract('memory', () => {
  const world = new MemoryWorld({ behaviourOf: contractBehaviour, serve: true });
  return {
    open: (owner) => new MemoryOrchestrator(world, owner),
    call: callOverHttp,
    kill: (_, replica) => world.killReplica(replica),
    close: () => undefined,
  };
});
