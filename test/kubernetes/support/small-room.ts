import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import type { TestEngine } from '../../support/engine.js';
import type { NodeOptions } from '../node/node.js';
import { type KubernetesRoom, nobodysConfig } from './kubernetes-room.js';
import { SmallCluster } from './small-cluster.js';

/** A small cluster that one suite has for itself. */
export interface SmallRoom extends KubernetesRoom {
  readonly cluster: SmallCluster;
}

export async function openSmallRoom(options: NodeOptions = {}): Promise<SmallRoom> {
  const cluster = await SmallCluster.open(options);
  const kubeconfig = (content: string) => Promise.resolve(cluster.writeKubeconfig(content));
  return {
    cluster,
    kubeconfig,
    // One worker for each function, whatever load a test makes, and none beside them.
    get env() {
      return { DEPLOYMENT_ENV: 'kubernetes', ...cluster.env, HPA_MAX_REPLICAS: '1', WARM_POOL_SIZE: '0' };
    },
    nowhere: { KUBECONFIG: await kubeconfig(nobodysConfig()) },
    workers: async () => (await cluster.ours(POD)).map(({ metadata }) => metadata?.name ?? '').toSorted(),
    clear: () => cluster.close(),
  };
}

/** A small cluster as engines are for a `Stage`, which tells its room to `seen` when it opens. */
export function smallEngine(seen: (room: SmallRoom) => void = () => undefined): TestEngine {
  const openRoom = async () => {
    const room = await openSmallRoom();
    seen(room);
    return room;
  };
  return { name: 'kubernetes', missing: undefined, openRoom };
}
