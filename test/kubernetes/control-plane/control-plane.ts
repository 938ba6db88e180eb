import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node';
import { type Flags, Program } from './programs.js';

const START_MS = 180_000;
const LOOK_MS = 100;
/** Followed by the process it belongs to. */
const FOLDER = 'faas-control-plane-';
const LEAST_MEMORY_BYTES = 1024 ** 3;
/** What a Deployment, its Service and its autoscaler need, and what cleans up after them. */
const CONTROLLERS = [
  'deployment-controller',
  'replicaset-controller',
  'endpointslice-controller',
  'horizontal-pod-autoscaler-controller',
  'garbage-collector-controller',
  'namespace-controller',
  'serviceaccount-controller',
  'resourcequota-controller',
  'pod-garbage-collector-controller',
];

/** etcd, kube-apiserver, kube-controller-manager and kube-scheduler on this machine. It has no node yet. */
export class ControlPlane {
  private readonly programs: Program[] = [];
  private readonly token = randomBytes(16).toString('hex');

  private constructor(
    private readonly folder: string,
    private readonly server: string,
  ) {}

  static async start(): Promise<ControlPlane> {
    const [secure, client, peer] = await Promise.all([freePort(), freePort(), freePort()]);
    const parent = inMemory() ?? tmpdir();
    await sweep(parent);
    const folder = await mkdtemp(join(parent, `${FOLDER}${process.pid}-`));
    const plane = new ControlPlane(folder, `https://127.0.0.1:${secure}`);
    try {
      await plane.startAll(`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`, secure);
      return plane;
    } catch (error) {
      await plane.stop();
      throw error;
    }
  }

  /** The cluster's administrator. */
  get admin(): KubeConfig {
    const config = new KubeConfig();
    const caData = Buffer.from(this.certificate.cert).toString('base64');
    config.loadFromClusterAndUser(
      { name: 'test', server: this.server, caData, skipTLSVerify: false },
      { name: 'admin', token: this.token },
    );
    return config;
  }

  /** The API server's own, which it made when it started. */
  get certificate(): { readonly cert: string; readonly key: string } {
    const read = (name: string) => readFileSync(join(this.folder, 'certificates', name), 'utf8');
    return { cert: read('apiserver.crt'), key: read('apiserver.key') };
  }

  async stop(): Promise<void> {
    // Nothing of it is kept, and the API server would wait for its clients.
    await Promise.all(this.programs.map((program) => program.kill()));
    await rm(this.folder, { recursive: true, force: true });
  }

  private async startAll(etcd: string, peers: string, port: number): Promise<void> {
    this.run('etcd', {
      'data-dir': join(this.folder, 'etcd'),
      'listen-client-urls': etcd,
      'advertise-client-urls': etcd,
      'listen-peer-urls': peers,
      'initial-advertise-peer-urls': peers,
      'initial-cluster': `default=${peers}`,
      logger: 'zap',
      'log-level': 'warn',
    });
    this.run('kube-apiserver', { 'etcd-servers': etcd, 'secure-port': port, ...this.apiServerFlags() });
    await this.until('the API server is ready', () => this.isReady());

    const kubeconfig = join(this.folder, 'kubeconfig');
    writeFileSync(kubeconfig, this.admin.exportConfig(), { mode: 0o600 });
    const common = {
      kubeconfig,
      'leader-elect': false,
      'secure-port': 0,
      'kube-api-qps': 500,
      'kube-api-burst': 1000,
    };
    this.run('kube-scheduler', common);
    this.run('kube-controller-manager', {
      ...common,
      controllers: CONTROLLERS.join(','),
      'horizontal-pod-autoscaler-sync-period': '1s',
      'horizontal-pod-autoscaler-initial-readiness-delay': '0s',
      'horizontal-pod-autoscaler-cpu-initialization-period': '0s',
    });
    const core = this.admin.makeApiClient(CoreV1Api);
    await this.until('namespaces get their ServiceAccount', async () => {
      await core.readNamespacedServiceAccount({ namespace: 'default', name: 'default' });
    });
  }

  private apiServerFlags(): Flags {
    const keys = join(this.folder, 'service-accounts.pem');
    const tokens = join(this.folder, 'tokens.csv');
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(keys, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    writeFileSync(tokens, `${this.token},admin,admin,system:masters\n`, { mode: 0o600 });
    return {
      'bind-address': '127.0.0.1',
      'cert-dir': join(this.folder, 'certificates'),
      'token-auth-file': tokens,
      'service-account-issuer': 'https://kubernetes.default.svc',
      'service-account-key-file': keys,
      'service-account-signing-key-file': keys,
      'authorization-mode': 'RBAC',
      // A namespace's pods go to the node of its suite. Nobody is here to take away what marks a node as new.
      'enable-admission-plugins': 'PodNodeSelector',
      'disable-admission-plugins': 'TaintNodesByCondition',
      'service-cluster-ip-range': '10.96.0.0/16',
      'endpoint-reconciler-type': 'none',
      'enable-priority-and-fairness': false,
      profiling: false,
    };
  }

  private run(name: ConstructorParameters<typeof Program>[0], flags: Flags): void {
    this.programs.push(new Program(name, flags, this.folder));
  }

  private async isReady(): Promise<void> {
    const answer = await this.admin.makeApiClient(CoreV1Api).listNamespace({ limit: 1 });
    if (answer.items.length === 0) throw new Error('There is no namespace yet.');
  }

  private async until(what: string, look: () => Promise<void>): Promise<void> {
    const deadline = Date.now() + START_MS;
    for (;;) {
      for (const program of this.programs) program.check();
      const failed = await look().then(
        () => undefined,
        (error: unknown) => error,
      );
      if (failed === undefined) return;
      if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}.`, { cause: failed });
      await delay(LOOK_MS);
    }
  }
}

/** A file system in memory, if there is one with room: etcd waits for the disk at each write. */
function inMemory(): string | undefined {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize >= LEAST_MEMORY_BYTES ? '/dev/shm' : undefined;
  } catch {
    return undefined;
  }
}

/** Removes what runs that were killed left behind. */
async function sweep(parent: string): Promise<void> {
  const left = readdirSync(parent).filter((name) => {
    const [pid] = name.startsWith(FOLDER) ? name.slice(FOLDER.length).split('-') : [];
    return pid !== undefined && !existsSync(`/proc/${pid}`);
  });
  for (const name of left) await rm(join(parent, name), { recursive: true, force: true });
}

async function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
