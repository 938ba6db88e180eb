import { randomBytes } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { Access } from './access/access.js';
import { Cluster } from './cluster.js';
import { type Controls, controlsOf, type Role } from './controls.js';
import { AutoscalerController } from './controllers/autoscaler.js';
import { DeploymentController } from './controllers/deployments.js';
import { EndpointSliceController } from './controllers/endpoint-slices.js';
import { GarbageCollector } from './controllers/garbage.js';
import { NamespaceController } from './controllers/namespaces.js';
import { QuotaController } from './controllers/quotas.js';
import { ReplicaSetController } from './controllers/replica-sets.js';
import { Scheduler } from './controllers/scheduler.js';
import { Addresses } from './node/addresses.js';
import { Kubelet } from './node/kubelet.js';
import { MemoryLimits } from './node/memory-limits.js';
import { ServiceForwarder } from './node/service-forwarder.js';
import { NodeStreams } from './node/streams.js';
import { type ApiOptions, settingsOf } from './options.js';
import { ApiServer } from './rest/api-server.js';
import { ObjectsApi } from './rest/objects-api.js';
import { NAMESPACES } from './rest/resources.js';
import { Watches } from './rest/watching.js';
import { Admission } from './rules/admission.js';
import { Store } from './store/store.js';

/** A small Kubernetes on this machine, whose pods are worker processes. */
export interface KubernetesApi {
  readonly url: string;
  /** Where functions live. */
  readonly namespace: string;
  readonly controls: Controls;
  /** YAML, as a file would hold it. */
  kubeconfig(role: Role): string;
  /** Ends every process and removes every folder. */
  stop(): Promise<void>;
}

export async function start(options: ApiOptions = {}): Promise<KubernetesApi> {
  const settings = settingsOf(options);
  const { namespace, roleFile, managerName, image, backOffMs, retryMs } = settings;
  const folder = await mkdtemp(join(settings.tmpDir, 'kube-'));
  const store = new Store();
  const addresses = new Addresses();
  const cluster = new Cluster(store, new Admission(store), () => addresses.next());
  const node = { folder, image, backOffMs, retryMs, store, memory: new MemoryLimits() };
  const kubelet = new Kubelet(cluster, addresses, node);
  const autoscaler = new AutoscalerController(cluster);
  const forwarder = new ServiceForwarder(cluster);
  const controllers = [
    new NamespaceController(cluster),
    new DeploymentController(cluster),
    new ReplicaSetController(cluster),
    new QuotaController(cluster),
    new Scheduler(cluster, settings.capacity),
    new EndpointSliceController(cluster),
    new GarbageCollector(cluster),
    autoscaler,
  ];
  for (const part of [...controllers, kubelet, forwarder]) store.onChange((change) => part.onChange(change));

  const access = new Access({ roleFile, namespace, managerName });
  const tokens = { admin: randomBytes(16).toString('hex'), manager: randomBytes(16).toString('hex') };
  access.grant(tokens.admin, 'admin');
  access.grant(tokens.manager, 'manager');
  const watches = new Watches(store, settings.bookmarkMs);
  const objects = new ObjectsApi(cluster, access, watches);
  const server = new ApiServer(access, objects, new NodeStreams(cluster, kubelet));
  for (const name of new Set(['default', namespace])) {
    const object = { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
    cluster.create(NAMESPACES, object, { manager: 'kube-apiserver' });
  }
  await server.up();
  return {
    url: server.url,
    namespace,
    controls: controlsOf({ cluster, access, server, watches, kubelet, autoscaler, tokens }),
    kubeconfig: (role) => kubeconfig(server.url, namespace, role, tokens[role]),
    stop: async () => {
      await server.down();
      for (const controller of controllers) controller.close();
      forwarder.stop();
      await kubelet.stop();
    },
  };
}

function kubeconfig(server: string, namespace: string, user: string, token: string): string {
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    // Node can't make certificates by itself, so this is plain HTTP, which clients take only where told not to verify.
    clusters: [{ name: 'test', cluster: { server, 'insecure-skip-tls-verify': true } }],
    users: [{ name: user, user: { token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user, namespace } }],
    'current-context': 'test',
  });
}
