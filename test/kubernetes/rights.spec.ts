import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { Orchestrator } from '#libs/orchestrator/orchestrator.js';
import type { FunctionId, Observed } from '#libs/orchestrator/workload.js';
import { answering, TALKATIVE } from '#libs/orchestrator/testing/contract.handlers.js';
import { CONFIG_MAP } from '#libs/orchestrator-kubernetes/kinds.js';
import { ProviderSuite } from './support/provider.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** What the Role of k8s/functions grants. */
function grants(): { verb: string; group: string; resource: string }[] {
  const { rules } = parse(readFileSync('k8s/functions/role.yaml', 'utf8')) as { rules: readonly Rule[] };
  return rules.flatMap(({ apiGroups, resources, verbs }) =>
    apiGroups.flatMap((group) => resources.flatMap((resource) => verbs.map((verb) => ({ verb, group, resource })))),
  );
}

describe.skipIf(noCluster)("the manager's Role [kubernetes]", () => {
  const suite = ProviderSuite.on({}, { HPA_MAX_REPLICAS: '4' }, { size: 1, memoryMiB: 256, cpuMillis: 500, pids: 64 });
  const right = ({ verb, group, resource }: { verb: string; group: string; resource: string }) =>
    `${verb} ${resource}${group === '' ? '' : `.${group}`}`;

  /** Everything that a manager ever does to its cluster. */
  async function live(manager: Orchestrator): Promise<void> {
    const { stage, cluster } = suite;
    await manager.ping(stage.signal());
    const first = stage.workload(TALKATIVE, { replicas: 2, maxReplicas: 4 });
    const { functionId } = first;
    const seen = await stage.settleReady(manager, first);
    for (const endpoint of seen.endpoints) await stage.call(endpoint, 'hello');
    expect(await logOf(manager, functionId)).toContain('said hello');

    const killed = seen.endpoints[0]?.replica ?? '';
    await stage.harness.kill(functionId, killed);
    // It may serve again before anybody has looked why it did not.
    const isBack = ({ endpoints }: Observed) =>
      endpoints.length === 2 && endpoints.every((one) => one.replica !== killed);
    await stage.settle(manager, first, (now) => now.reason?.code === 'worker_crashed' || isBack(now));
    const secrets = { variables: { A: 'a' }, files: { b: 'b' }, digest: 'one' };
    const confided = { ...first, replicas: 1, maxReplicas: 1, secrets };
    await stage.settleReady(manager, confided);
    const { secrets: _, ...without } = confided;
    const second = stage.revised(without, answering('two'));
    const rolled = await stage.settleReady(manager, second);
    expect((await stage.call(rolled.endpoints[0], 'x')).body).toEqual({ result: 'two:x' });
    await stage.until(
      'the former code and the autoscaler are gone',
      async () => {
        await stage.ensure(manager, second);
        return (await cluster.leftovers()).filter((name) => /-1$|^Horizontal/.test(name));
      },
      (left) => left.length === 0,
    );
    await stage.settle(manager, { ...second, replicas: 0 }, ({ replicas }) => replicas === 0);
    await cluster.delete(CONFIG_MAP, `handler-code-${functionId}-2`);
    await stage.settleReady(manager, second);
  }

  async function logOf(manager: Orchestrator, functionId: FunctionId): Promise<string> {
    const { stage } = suite;
    const read = async () => {
      const lines = await stage.logOf(manager, functionId);
      return lines.map(({ text }) => text).join('\n');
    };
    return stage.until('its log is there', read, (text) => text !== '');
  }

  it('grants exactly what the life of a function takes: nothing is missing, nothing is spare', async () => {
    const { stage, cluster } = suite;
    await live(await stage.manager());
    // The next manager finds what is nobody's any more, and takes it away.
    const next = await stage.manager();
    for (const orphan of await stage.list(next)) await stage.remove(next, orphan);
    await stage.until(
      'only what waits for functions is left',
      async () => (await cluster.leftovers()).filter((name) => !name.startsWith('Pod faas-pool-')),
      (left) => left.length === 0,
    );

    const { uses } = cluster.proxy;
    expect(uses.filter(({ allowed }) => !allowed)).toEqual([]);
    expect(uses.map(right).toSorted()).toEqual(grants().map(right).toSorted());
  });
});
