import type { ApiKey } from './api-keys.js';
import type { EgressRange } from './egress-range.js';
import type { SecretsKey } from './secrets-keys.js';

/** What no setting of a function may exceed, however the manager is configured. */
export const LONGEST_TIMEOUT_MS = 3_600_000;
/** In characters, of which nearly all take a byte. A lock has a hundred hashes and more for some packages. */
export const LONGEST_REQUIREMENTS = 1024 * 1024;
/** What timers of 32 bits hold. */
export const LONGEST_IDLE_MS = 2_147_483_647;
export const MOST_REPLICAS = 1_000;
export const MOST_MEMORY_MIB = 1_048_576;
export const MOST_CPU_MILLIS = 1_024_000;
export const MOST_CONCURRENCY = 1_000;
/** How long a call for later may wait before it is due, and from then on. */
export const LONGEST_AGE_MS = 30 * 24 * 3_600_000;
export const MOST_ATTEMPTS = 100;

/** Everything the environment decides, parsed once by `loadConfig`. Each module is injected only its slice. */
export interface Config {
  readonly server: ServerConfig;
  readonly auth: AuthConfig;
  readonly database: DatabaseConfig;
  readonly limits: LimitsConfig;
  readonly invocations: InvocationsConfig;
  readonly schedules: SchedulesConfig;
  readonly history: HistoryConfig;
  readonly functions: FunctionDefaults;
  readonly secrets: SecretsConfig;
  readonly orchestrator: OrchestratorConfig;
  readonly layers: LayersConfig;
  readonly reconcile: ReconcileConfig;
  readonly scale: ScaleConfig;
  readonly metrics: MetricsConfig;
  readonly log: LogConfig;
}

export interface ServerConfig {
  readonly host: string;
  readonly port: number;
  /** The address asked for was every interface, and was narrowed to loopback because no API key is configured. */
  readonly narrowedToLoopback: boolean;
  /** How many processes share the address, each a manager with its own share of what is bounded. */
  readonly processes: number;
  /** How long shutdown waits for calls in flight, in milliseconds. */
  readonly drainTimeoutMs: number;
  /** How long shutdown keeps answering after `/readyz` turned 503, so that load balancers notice, in milliseconds. */
  readonly shutdownDelayMs: number;
  /** How long a client may take to send one whole request, in milliseconds. */
  readonly requestTimeoutMs: number;
}

export interface AuthConfig {
  readonly keys: readonly ApiKey[];
  readonly disabled: boolean;
  /** Origins whose pages may call, and read the answers. */
  readonly origins: readonly string[];
  /** Names below it are functions; empty: there is none. */
  readonly functionsDomain: string;
  /** Where a key is kept that the manager makes for itself where it needs one and none is configured. */
  readonly keyFile: string;
}

export type DatabaseConfig =
  | { readonly kind: 'server'; readonly url: string; readonly poolSize: number }
  | { readonly kind: 'embedded'; readonly dataDir: string; readonly poolSize: number };

export interface LimitsConfig {
  readonly uploadBytes: number;
  readonly payloadBytes: number;
  /** Calls that may wait for a slot of one function. */
  readonly queuePerFunction: number;
  /** How long an answer to an HTTP call that has begun may pause, in milliseconds. */
  readonly streamIdleMs: number;
  /** WebSockets that may be open or being opened, in all and of one function. */
  readonly webSockets: number;
  readonly webSocketsPerFunction: number;
  /** What all requests under way together may keep in memory. */
  readonly heldBytes: number;
}

/** Calls for later. */
export interface InvocationsConfig {
  /** Attempts that a manager makes at once. */
  readonly concurrency: number;
  /** What may wait and run, of one function and in all. */
  readonly perFunction: number;
  readonly most: number;
  readonly bytesPerFunction: number;
  readonly mostBytes: number;
  /** What counts where a call says nothing else. */
  readonly maxAttempts: number;
  readonly backoffMs: number;
  readonly maxAgeMs: number;
  /** No pause between attempts is longer, in milliseconds. */
  readonly maxBackoffMs: number;
  /** How long a call that has ended can be read, in milliseconds. */
  readonly retentionMs: number;
  /** A larger result isn't kept. */
  readonly resultBytes: number;
  /** How long an attempt outlives a manager that was killed, and how often is looked for what nobody told of. */
  readonly leaseMs: number;
  readonly pollMs: number;
  readonly callbacks: CallbacksConfig;
}

/** How many schedules there may be, of one function and in all. */
export interface SchedulesConfig {
  readonly perFunction: number;
  readonly most: number;
}

/** What is kept of calls that have ended. */
export interface HistoryConfig {
  /** False: nothing more is written; what there is can be read until its time is over. */
  readonly isOn: boolean;
  readonly retentionMs: number;
  /** Calls and bytes that are kept at most; the oldest go first. */
  readonly mostRows: number;
  readonly mostBytes: number;
  /** A larger payload or result isn't kept. */
  readonly payloadBytes: number;
}

/** Telling others of calls for later that have ended. */
export interface CallbacksConfig {
  /** What they are signed with, each in a signature of its own; none: there are no callbacks. */
  readonly secrets: readonly string[];
  /** Private addresses that they may go to all the same. */
  readonly allow: readonly EgressRange[];
  readonly timeoutMs: number;
  readonly maxAttempts: number;
  /** The longest pause after the first attempt, in milliseconds; it doubles with each. */
  readonly backoffMs: number;
}

/** What a function gets that didn't ask for anything else. */
export interface FunctionDefaults {
  readonly timeoutMs: number;
  readonly maxTimeoutMs: number;
  readonly concurrency: number;
  readonly memoryMiB: number;
  readonly maxMemoryMiB: number;
  readonly cpuMillis: number;
  readonly maxCpuMillis: number;
  readonly pids: number;
  /** A function that nobody calls for this long loses its replicas until it is called again, in milliseconds; 0: never. */
  readonly idleTimeoutMs: number;
  readonly minReplicas: number;
  /** Revisions of a function that are kept beside those in use. */
  readonly revisionsKept: number;
  /** How long revisions are kept that have no calls, in milliseconds; 0: while there are few enough. */
  readonly revisionRetentionMs: number;
  /** How long an upload may take to become ready, in milliseconds. */
  readonly readyTimeoutMs: number;
}

export interface SecretsConfig {
  /** The first one encrypts, all of them decrypt. */
  readonly keys: readonly SecretsKey[];
  /** Where a key is kept that the manager makes for itself where none is configured and the database is its own. */
  readonly keyFile: string;
  readonly mayMakeKey: boolean;
}

export type Engine = 'docker' | 'kubernetes' | 'process';

/** Workers kept ready without a function, and what each may use until it has one. */
export interface PoolConfig {
  /** How many when nothing happens; 0 for none. */
  readonly size: number;
  /** How long each outlives a manager that was killed, in milliseconds. Unset: half a minute. */
  readonly leaseMs?: number;
  readonly memoryMiB: number;
  readonly cpuMillis: number;
  readonly pids: number;
}

export const NO_POOL: PoolConfig = { size: 0, memoryMiB: 0, cpuMillis: 0, pids: 0 };

export interface OrchestratorConfig {
  /** Undefined: chosen at boot by what the machine has. */
  readonly engine: Engine | undefined;
  readonly docker: DockerConfig;
  readonly kubernetes: KubernetesConfig;
  readonly process: ProcessConfig;
  readonly pool: PoolConfig;
  /** Takes the place of the pool's size on Kubernetes, where those who wait take room from everybody. */
  readonly clusterPoolSize: number;
}

/** How layers of packages are built, and how long they are kept. */
export interface LayersConfig {
  /** The index that packages come from; undefined: none, only the folder of wheels. May hold credentials. */
  readonly indexUrl: string | undefined;
  readonly extraIndexUrls: readonly string[];
  /** A folder of wheels on the engine's machine. */
  readonly wheelsDir: string | undefined;
  /** Packages without a wheel may be built, which runs code of theirs. */
  readonly allowSdists: boolean;
  /** Requirements may name wheels by https:// URLs. */
  readonly allowUrls: boolean;
  readonly timeoutMs: number;
  readonly memoryMiB: number;
  readonly largestMiB: number;
  readonly mostFiles: number;
  /** How many are built at once. */
  readonly concurrency: number;
  /** What builds may leave for later ones in their cache; it is emptied when there is more. */
  readonly cacheMiB: number;
  /** A layer that no revision names is kept for this long after its last use, in milliseconds. */
  readonly retentionMs: number;
  /** The image that they are built in, and the volume that they are unpacked to; undefined: one of this installation. */
  readonly image: string;
  readonly volume: string | undefined;
  /** The same where workers are processes: the program, and the folder; undefined: one beside the workers' own. */
  readonly uv: string;
  readonly dir: string | undefined;
  /** Where workers fetch layers that no folder of their machine has; undefined: they can't. */
  readonly served: ServedLayers | undefined;
}

/** The manager's own port for layers, which serves nothing else. */
export interface ServedLayers {
  readonly host: string;
  readonly port: number;
  /** By which workers reach that port of any manager, without a slash at its end. */
  readonly url: string;
}

export interface DockerConfig {
  /** Unset: functions can't have layers. */
  readonly layers?: LayersConfig;
  readonly image: string;
  readonly registry: RegistryLogin | undefined;
  readonly network: string;
  /** Workers get no route out of their network. */
  readonly internal: boolean;
  /** How the manager reaches a worker: through its port on loopback, by container address, or whichever works. */
  readonly reach: 'auto' | 'published' | 'address';
  /** Which filter of system calls workers get: the manager's own, or whatever the engine has for all its containers. */
  readonly seccomp: 'own' | 'engine';
  readonly firewall: FirewallConfig;
  /** The engine's name of the OCI runtime that workers run with; empty: the engine's default. */
  readonly runtime: string;
}

/** Rules on the engine's machine that keep workers from the machine itself and from private addresses. */
export interface FirewallConfig {
  /** `auto`: set where the manager may, else it says what to run; `required`: no worker starts without them. */
  readonly mode: 'auto' | 'required' | 'off';
  readonly allow: readonly EgressRange[];
}

export interface KubernetesConfig {
  /** Unset: functions can't have layers. */
  readonly layers?: LayersConfig;
  /** Paths of kubeconfig files, parted by `:`; undefined: the cluster this process is a pod of, else the user's own file. */
  readonly kubeconfig: string | undefined;
  /** This process is a pod. */
  readonly insideCluster: boolean;
  /** Where functions live; may be another namespace than the manager's. */
  readonly namespace: string;
  readonly image: string;
  readonly imagePullPolicy: 'IfNotPresent' | 'Always' | 'Never';
  /** A Secret of the namespace with a registry's login. */
  readonly imagePullSecret: string | undefined;
  /** Such as gVisor's or Kata's. */
  readonly runtimeClass: string | undefined;
  /** Workers' users are the node's own; false: each pod has a user namespace, where the cluster can make one. */
  readonly hostUsers: boolean;
  /** What the installation adds to every pod of a worker. */
  readonly workerPods: WorkerPodSettings;
  /** The priority of pods that wait for a function; undefined: the same as that of all worker pods. */
  readonly poolPriorityClass: string | undefined;
  /** The workers' account, which may do nothing. */
  readonly workerServiceAccount: string;
  readonly reach: 'auto' | 'pod' | 'service' | 'proxy';
  /** A claim of the namespace in which all pods share layers; undefined: each pod has its own copy. */
  readonly layersClaim: string | undefined;
  /** What a worker is sure to get; its limits are the function's. */
  readonly requests: { readonly cpuMillis: number; readonly memoryMiB: number };
  readonly autoscale: AutoscaleConfig;
  /** How long a pod may wait for a node before the function says so, in milliseconds. */
  readonly schedulingPatienceMs: number;
}

/** Parts of a pod as Kubernetes has them: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ */
export interface WorkerPodSettings {
  readonly nodeSelector?: Readonly<Record<string, string>> | undefined;
  readonly tolerations?: readonly object[] | undefined;
  readonly affinity?: object | undefined;
  /** In place of the manager's own, which spreads the pods of a function over nodes where it can. */
  readonly topologySpreadConstraints?: readonly object[] | undefined;
  readonly priorityClassName?: string | undefined;
  /** The manager's own labels and annotations stay. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

export interface AutoscaleConfig {
  /** At most this many replicas of one function; 1 means no autoscaler. */
  readonly maxReplicas: number;
  readonly cpuPercent: number;
  readonly memoryPercent: number;
  /** At most `upPods` more in each period, for what was wanted throughout the window. */
  readonly upWindowSeconds: number;
  readonly upPods: number;
  readonly upPeriodSeconds: number;
  readonly downWindowSeconds: number;
  readonly downPods: number;
  readonly downPeriodSeconds: number;
}

export interface RegistryLogin {
  readonly url: string;
  readonly username: string;
  readonly password: string;
}

export interface ProcessConfig {
  /** Unset: functions can't have layers. */
  readonly layers?: LayersConfig;
  /** The Python that has the worker's requirements. */
  readonly python: string;
  /** The folder that holds the `faas_worker` package. */
  readonly workerDir: string;
  /** Where workers' files and sockets live; short, because UNIX socket paths hold at most 107 bytes. */
  readonly runtimeDir: string;
}

export interface ReconcileConfig {
  /** Poll behind the notifications, in milliseconds. */
  readonly pollMs: number;
  /** How long a claimed row stays with its manager unless renewed, in milliseconds. */
  readonly leaseMs: number;
  /** How often a settled function is compared with reality, in milliseconds. */
  readonly resyncMs: number;
  readonly concurrency: number;
  /** How long the engine may take for one step of one function before the step is given up, in milliseconds. */
  readonly stepTimeoutMs: number;
  /** How often objects without a function are looked for, in milliseconds. */
  readonly orphanSweepMs: number;
}

export interface ScaleConfig {
  /** How often the number of replicas is thought over, in milliseconds. */
  readonly intervalMs: number;
  /** A function keeps the replicas that it needed at most within so long, in milliseconds. */
  readonly downWindowMs: number;
  /** Where an upload names no limit: at most this many replicas of a function, on one machine and on a cluster. */
  readonly maxReplicas: number;
  readonly maxClusterReplicas: number;
  /** What the memory limits of all replicas on one machine may add up to before no more are added. */
  readonly memoryMiB: number;
}

export interface MetricsConfig {
  /** Functions told apart by their calls; those beyond share the label `other`. */
  readonly maxFunctions: number;
  /** Whoever reaches the address may read them. */
  readonly public: boolean;
}

export interface LogConfig {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';
  readonly pretty: boolean;
}
