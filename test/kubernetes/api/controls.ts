import type { Access, Use } from './access/access.js';
import type { Cluster } from './cluster.js';
import type { AutoscalerController } from './controllers/autoscaler.js';
import type { Kubelet } from './node/kubelet.js';
import type { ApiServer } from './rest/api-server.js';
import type { Watches } from './rest/watching.js';
import type { Webhook } from './rules/admission.js';

export type Role = 'admin' | 'manager';

/** What a test can do to the cluster besides using its API. All plain data, so that it works across processes too. */
export interface Controls {
  /** SIGKILL, by a container's id or its pod's name. Answers how many containers that were. */
  kill(which: string): Promise<number>;
  /** Cuts every watch. */
  dropWatches(): Promise<void>;
  /** Ends every watch in good order, as the API server does now and then. */
  endWatches(): Promise<void>;
  /** Forgets the history: watches from before answer 410. */
  compact(): Promise<void>;
  /** The manager's next `count` requests are answered with 429. */
  throttle(count: number, retryAfterSeconds: number): Promise<void>;
  /** Nobody answers at the API server's address; pods and controllers go on. */
  down(): Promise<void>;
  up(): Promise<void>;
  /** Every request takes so much longer. */
  latency(ms: number): Promise<void>;
  /** Its token is worth nothing any more. */
  revoke(role: Role): Promise<void>;
  refuse(webhook: Webhook): Promise<void>;
  /** Takes every webhook away. */
  admitAll(): Promise<void>;
  /** What the load asks an autoscaler for; undefined: nothing, so that replicas go once its window is over. */
  desire(namespace: string, autoscaler: string, replicas?: number): Promise<void>;
  /** What the manager's token was used for. */
  uses(): Promise<Use[]>;
  /** What its Role grants. */
  grants(): Promise<Omit<Use, 'allowed'>[]>;
  openWatches(): Promise<number>;
}

export interface Parts {
  readonly cluster: Cluster;
  readonly access: Access;
  readonly server: ApiServer;
  readonly watches: Watches;
  readonly kubelet: Kubelet;
  readonly autoscaler: AutoscalerController;
  readonly tokens: Readonly<Record<Role, string>>;
}

export function controlsOf({ cluster, access, server, watches, kubelet, autoscaler, tokens }: Parts): Controls {
  return {
    async kill(which) {
      const running = kubelet.find(which).filter(({ isRunning }) => isRunning);
      await Promise.all(running.map((container) => container.kill()));
      return running.length;
    },
    dropWatches: async () => watches.drop(),
    endWatches: async () => watches.end(),
    compact: async () => cluster.store.compact(),
    throttle: async (count, seconds) => server.throttle(count, seconds),
    down: () => server.down(),
    up: () => server.up(),
    latency: async (ms) => server.latency(ms),
    revoke: async (role) => access.revoke(tokens[role]),
    refuse: async (webhook) => void cluster.admission.webhooks.push(webhook),
    admitAll: async () => void cluster.admission.webhooks.splice(0),
    desire: async (namespace, name, replicas) => autoscaler.desire(namespace, name, replicas),
    uses: async () => access.uses(),
    grants: async () => access.grants(),
    openWatches: async () => watches.size,
  };
}
