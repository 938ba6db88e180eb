import { describe, expect, it } from 'vitest';
import { answering } from '#libs/orchestrator/testing/contract.handlers.js';
import { AUTOSCALER, CONFIG_MAP, DEPLOYMENT, type Kind, SERVICE } from '#libs/orchestrator-kubernetes/kinds.js';
import { foreignObject } from './support/foreign-object.js';
import { ProviderSuite } from './support/provider.js';
import { whyNoControlPlane } from './control-plane/shared.js';

const noCluster = whyNoControlPlane() !== undefined;

const KINDS: { kind: Kind; nameOf: (id: string) => string }[] = [
  { kind: CONFIG_MAP, nameOf: (id) => `handler-code-${id}-1` },
  { kind: SERVICE, nameOf: (id) => `service-${id}` },
  { kind: AUTOSCALER, nameOf: (id) => `hpa-${id}` },
  { kind: DEPLOYMENT, nameOf: (id) => `faas-worker-${id}` },
];

describe.skipIf(noCluster).each(KINDS)(
  'a $kind.kind of somebody else with our name [kubernetes]',
  ({ kind, nameOf }) => {
    const suite = ProviderSuite.on();

    it('is said to be there, never touched, outlives the function, and the function heals when it goes', async () => {
      const { stage, cluster } = suite;
      const manager = await stage.manager();
      const workload = stage.workload(answering('one'));
      const name = nameOf(workload.functionId);
      await cluster.objects.create(foreignObject(kind, name, cluster.namespace));
      await stage.until(
        'the cluster has written into it what it writes of its own accord',
        () => cluster.get(kind, name) as Promise<Noted>,
        ({ metadata, status }) =>
          kind !== DEPLOYMENT || (status?.observedGeneration !== undefined && metadata.annotations !== undefined),
      );
      const theirs = contentOf(await cluster.get(kind, name));

      const seen = await stage.settle(manager, workload, ({ reason }) => reason?.code === 'rejected');
      expect(seen.reason?.message).toContain(`the ${kind.kind} ${name} exists already and is not ours`);
      expect(seen.endpoints).toEqual([]);
      await stage.remove(manager, workload.functionId);
      expect(await stage.list(manager)).toEqual([]);
      expect(contentOf(await cluster.get(kind, name))).toEqual(theirs);

      await stage.settle(manager, workload, ({ reason }) => reason?.code === 'rejected');
      await cluster.delete(kind, name);
      await cluster.gone(kind, name);
      const healed = await stage.settleReady(manager, workload);
      expect((await stage.call(healed.endpoints[0], 'x')).body).toEqual({ result: 'one:x' });
    });
  },
);

/** What the cluster writes into a Deployment of its own accord, some time after it was made. */
interface Noted {
  metadata: { annotations?: object };
  status?: { observedGeneration?: number };
}

/** All but what the cluster itself goes on reporting. */
function contentOf(object: object): object {
  const { status: _, metadata, ...rest } = object as { status?: object; metadata: Record<string, unknown> };
  const { resourceVersion: _version, managedFields: _fields, ...kept } = metadata;
  return { ...rest, metadata: kept };
}
