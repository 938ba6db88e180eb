import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { POD } from '#libs/orchestrator-kubernetes/kinds.js';
import { type KubernetesRoom, nobodysConfig } from '../../kubernetes/support/kubernetes-room.js';
import type { TestEngine } from '../../support/engine.js';
import { TestCluster } from './cluster.js';
import { CLUSTER_IMAGES } from './images.js';

/** A namespace of the cluster, and a manager's way to it. */
export interface Namespace extends KubernetesRoom {
  readonly cluster: TestCluster;
}

export async function openNamespace(image = CLUSTER_IMAGES.worker): Promise<Namespace> {
  const cluster = await TestCluster.open();
  const folder = await mkdtemp(join(tmpdir(), 'faas-kube-'));
  let files = 0;
  const kubeconfig = async (content: string) => {
    const path = join(folder, `config-${(files += 1)}`);
    await writeFile(path, content, { mode: 0o600 });
    return path;
  };
  return {
    cluster,
    kubeconfig,
    env: {
      DEPLOYMENT_ENV: 'kubernetes',
      KUBECONFIG: await kubeconfig(await cluster.managerConfig()),
      KUBERNETES_NAMESPACE: cluster.namespace,
      KUBERNETES_REACH: 'pod',
      WORKER_IMAGE: image,
      // One worker for each function, whatever load a test makes, and none beside them.
      HPA_MAX_REPLICAS: '1',
      WARM_POOL_SIZE: '0',
    },
    nowhere: { KUBECONFIG: await kubeconfig(nobodysConfig()) },
    workers: async () => (await cluster.ours(POD)).map(({ metadata }) => metadata?.name ?? '').toSorted(),
    clear: async () => {
      await cluster.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A manager's namespace as engines are for a `Stage`, which tells it to `seen` when it opens. */
export function namespaceEngine(seen: (room: Namespace) => void, image?: string): TestEngine {
  const openRoom = async () => {
    const room = await openNamespace(image);
    seen(room);
    return room;
  };
  return { name: 'kubernetes', missing: undefined, openRoom };
}
