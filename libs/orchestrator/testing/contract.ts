import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from 'vitest';
import { faultBehaviour } from './contract.faults.js';
import { layerBehaviour } from './contract.layers.js';
import { logBehaviour } from './contract.logs.js';
import { ownershipBehaviour } from './contract.ownership.js';
import { removalBehaviour } from './contract.removal.js';
import { replicaBehaviour } from './contract.replicas.js';
import { revisionBehaviour } from './contract.revisions.js';
import { secretBehaviour } from './contract.secrets.js';
import { type ContractHarness, type ContractOptions, Stage } from './contract.stage.js';

export { callIfReachable, callOverHttp } from './call.js';
export type { ContractHarness, ContractOptions } from './contract.stage.js';

/**
 * What every provider of the port does alike. A provider's spec calls this with a way to make managers, to call and to
 * kill replicas; workers must be ours (`apps/worker`) or behave like it.
 */
export function describeOrchestratorContract(
  name: string,
  makeHarness: () => ContractHarness | Promise<ContractHarness>,
  options: ContractOptions = {},
): void {
  describe(`orchestrator contract: ${name}`, { timeout: (options.deadlineMs ?? 20_000) * 3 }, () => {
    let harness: ContractHarness;
    let current: Stage;
    beforeAll(async () => {
      harness = await makeHarness();
    });
    afterAll(async () => {
      await harness.close();
    });
    beforeEach(() => {
      current = new Stage(harness, options);
    });
    afterEach(async () => {
      await current.close();
    });
    const stage = () => current;
    replicaBehaviour(stage);
    revisionBehaviour(stage);
    removalBehaviour(stage);
    secretBehaviour(stage);
    if (options.whyNoLayers === undefined) layerBehaviour(stage);
    else it.skip(`gives replicas their packages (${options.whyNoLayers})`);
    faultBehaviour(stage);
    ownershipBehaviour(stage);
    logBehaviour(stage);
  });
}
