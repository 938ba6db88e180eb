import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { CoreV1Api, type KubeConfig, ListWatch, type V1Pod, Watch } from '@kubernetes/client-node';
import { Addresses } from './addresses.js';
import { type Container, type NodeSettings, PORT } from './container.js';
import type { WorkerImage } from './container-run.js';
import { LogServer } from './log-server.js';
import { MemoryLimits } from './memory-limits.js';
import { claimsFolder, PodWorker } from './pod-worker.js';

const RESTART_MS = 200;

export interface NodeOptions {
  readonly image?: Partial<WorkerImage>;
  /** What pods may take together. */
  readonly capacity?: Readonly<Record<string, string>>;
  /** Milliseconds before each restart in a row of a container that ended. */
  readonly backOffMs?: readonly number[];
}

/** Where the node is in its cluster. */
export interface NodePlace {
  readonly name: string;
  readonly admin: KubeConfig;
  readonly certificate: { readonly cert: string; readonly key: string };
  /** The first three numbers of its pods' addresses. */
  readonly addresses: string;
}

/** A node of a real cluster whose containers are processes of this machine: a small virtual kubelet. */
export class VirtualNode {
  private readonly workers = new Map<string, PodWorker>();
  /** The uids of pods that have begun. */
  private readonly begun = new Set<string>();
  private readonly pods: ListWatch<V1Pod>;
  private readonly addresses: Addresses;
  private readonly logs: LogServer;
  private isStopped = false;

  private constructor(
    private readonly place: NodePlace,
    private readonly node: NodeSettings,
  ) {
    const { admin, name, addresses, certificate } = place;
    this.addresses = new Addresses(addresses);
    this.logs = new LogServer(certificate, (namespace, pod) => this.containersOf(namespace, pod));
    const fieldSelector = `spec.nodeName=${name}`;
    const list = () => node.core.listPodForAllNamespaces({ fieldSelector });
    this.pods = new ListWatch('/api/v1/pods', new Watch(admin), list, false, undefined, fieldSelector);
    this.pods.on('change', (pod) => this.onChange(pod));
    this.pods.on('delete', (pod) => this.onDelete(pod));
    this.pods.on('error', () => this.watchAgain());
  }

  static async start(place: NodePlace, options: NodeOptions = {}): Promise<VirtualNode> {
    const python = process.env['WORKER_PYTHON'] ?? '.cache/worker-venv/bin/python';
    const image = { name: 'faas-worker:local', python, workerDir: 'apps/worker', ...options.image };
    const node = new VirtualNode(place, {
      folder: await mkdtemp(join(tmpdir(), 'kube-')),
      image: { ...image, python: resolve(image.python), workerDir: resolve(image.workerDir) },
      backOffMs: options.backOffMs ?? [0, 500, 1000, 2000, 4000],
      retryMs: 500,
      core: place.admin.makeApiClient(CoreV1Api),
      memory: new MemoryLimits(),
    });
    await node.register({ cpu: '16', memory: '64Gi', 'ephemeral-storage': '64Gi', pods: '110', ...options.capacity });
    await node.pods.start();
    return node;
  }

  /** SIGKILL, by the pod's name or a container's id. Answers how many containers that were. */
  async kill(which: string): Promise<number> {
    const id = which.replace(/^(containerd:\/\/)?/, 'containerd://');
    const containers = [...this.workers.values()].flatMap((worker) =>
      worker.name === which ? worker.containers : worker.containers.filter(({ view }) => view.containerID === id),
    );
    const running = containers.filter(({ isRunning }) => isRunning);
    await Promise.all(running.map((container) => container.kill()));
    return running.length;
  }

  /** What pods find in a claim of their namespace. */
  claimFolder(namespace: string, name: string): string {
    return join(claimsFolder(this.node, namespace), name);
  }

  /** Ends every process, and takes the node out of the cluster. */
  async stop(): Promise<void> {
    this.isStopped = true;
    await this.pods.stop();
    await Promise.all([...this.workers.values()].map((worker) => worker.abort()));
    this.logs.close();
    await this.node.core.deleteNode({ name: this.place.name });
    await rm(this.node.folder, { recursive: true, force: true });
  }

  private async register(capacity: Readonly<Record<string, string>>): Promise<void> {
    const { name } = this.place;
    const port = await this.logs.listen();
    const now = new Date();
    const condition = { type: 'Ready', status: 'True', reason: 'KubeletReady', lastTransitionTime: now };
    const status = {
      capacity,
      allocatable: capacity,
      conditions: [{ ...condition, lastHeartbeatTime: now }],
      addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
    };
    const labels = { 'kubernetes.io/hostname': name };
    await this.node.core.createNode({ body: { metadata: { name, labels }, status } });
  }

  private watchAgain(): void {
    setTimeout(() => {
      if (!this.isStopped) this.pods.start().catch(() => this.watchAgain());
    }, RESTART_MS).unref();
  }

  private onChange(pod: V1Pod): void {
    const { uid = '', deletionTimestamp, deletionGracePeriodSeconds = 0 } = pod.metadata ?? {};
    if (this.isStopped) return;
    if (!this.begun.has(uid)) void this.begin(pod);
    const worker = this.workers.get(uid);
    worker?.update(pod);
    if (deletionTimestamp !== undefined) worker?.end(deletionGracePeriodSeconds);
  }

  private async begin({ metadata }: V1Pod): Promise<void> {
    const { uid = '', name = '', namespace } = metadata ?? {};
    this.begun.add(uid);
    const address = await this.addresses.nextFree(PORT);
    const pod = this.pods.get(name, namespace);
    if (this.isStopped || pod?.metadata?.uid !== uid) return;
    const worker = new PodWorker(pod, address, this.node);
    this.workers.set(uid, worker);
    if (pod.metadata.deletionTimestamp === undefined) worker.start();
    else worker.end(0);
  }

  private onDelete({ metadata }: V1Pod): void {
    const uid = metadata?.uid ?? '';
    void this.workers.get(uid)?.abort();
    this.workers.delete(uid);
  }

  private containersOf(namespace: string, pod: string): readonly Container[] {
    const found = [...this.workers.values()].find((worker) => worker.name === pod && worker.namespace === namespace);
    return found?.containers ?? [];
  }
}
