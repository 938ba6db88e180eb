import { DNS_LABEL } from '#libs/names/dns-label.js';
import { existsSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { availableParallelism, tmpdir, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { getHeapStatistics } from 'node:v8';
import { z } from 'zod';
import { parseApiKeys } from './api-keys.js';
import {
  type AuthConfig,
  type CallbacksConfig,
  type Config,
  type DatabaseConfig,
  type FirewallConfig,
  type KubernetesConfig,
  type LayersConfig,
  type LimitsConfig,
  type RegistryLogin,
  type SecretsConfig,
  type ServedLayers,
  type ServerConfig,
  type InvocationsConfig,
  LONGEST_AGE_MS,
  LONGEST_IDLE_MS,
  LONGEST_REQUIREMENTS,
  LONGEST_TIMEOUT_MS,
  MOST_ATTEMPTS,
  MOST_CONCURRENCY,
  MOST_CPU_MILLIS,
  MOST_MEMORY_MIB,
  MOST_REPLICAS,
} from './config.js';
import { poolSizeFor } from '#libs/orchestrator/pool-target.js';
import { type EgressRange, parseEgressRange } from './egress-range.js';
import { isLoopback, isWildcard, parseListenAddress } from './listen-address.js';
import { readSecretFiles } from './secret-files.js';
import { parseSecretsKeys } from './secrets-keys.js';

/** Thrown at boot; its message names every faulty variable at once. */
export class InvalidConfig extends Error {
  constructor(readonly faults: readonly string[]) {
    super(`The configuration has ${faults.length} fault(s):\n${faults.map((fault) => `  - ${fault}`).join('\n')}`);
    this.name = 'InvalidConfig';
  }
}

const flag = (fallback: boolean) =>
  z
    .enum(['true', 'false', '1', '0', 'yes', 'no'], { error: 'must be true or false' })
    .default(fallback ? 'true' : 'false')
    .transform((word) => word === 'true' || word === '1' || word === 'yes');

const whole = (min: number, max: number) =>
  z.coerce
    .number({ error: 'must be a whole number' })
    .int({ error: 'must be a whole number' })
    .min(min, { error: `must be at least ${min}` })
    .max(max, { error: `must be at most ${max}` });

const integer = (fallback: number, min: number, max: number) => whole(min, max).default(fallback);

const name = (what: string) =>
  z.string().regex(DNS_LABEL, {
    error: `must be ${what}: lower-case letters, digits and hyphens, at most 63`,
  });

/** A number, or as many as there are processors for. */
function processes() {
  const number = z.union([z.literal('auto').transform(() => availableParallelism()), whole(1, MOST_PROCESSES)], {
    error: `must be a whole number from 1 to ${MOST_PROCESSES}, or auto`,
  });
  return number.default(1).transform((count) => Math.min(count, MOST_PROCESSES));
}

/** A number, or as many as the memory suggests. */
function poolSize() {
  const error = `must be a whole number from 0 to ${LARGEST_POOL}, or auto`;
  return z.union([z.literal('auto'), whole(0, LARGEST_POOL)], { error }).default('auto');
}

const NO_LABEL_OF_OURS = /^(?!app$|func$|faas\.|app\.kubernetes\.io\/)/;

/** JSON of {@link WorkerPodSettings}. */
function workerPods() {
  const texts = z.record(z.string(), z.string());
  const settings = z.strictObject({
    nodeSelector: texts.optional(),
    tolerations: z.array(z.looseObject({})).optional(),
    affinity: z.looseObject({}).optional(),
    topologySpreadConstraints: z.array(z.looseObject({})).optional(),
    priorityClassName: z.string().optional(),
    labels: z
      .record(z.string().regex(NO_LABEL_OF_OURS, { error: 'is a label of the manager itself' }), z.string())
      .optional(),
    annotations: texts.optional(),
  });
  const parsed = z.string().transform((text, context): unknown => {
    try {
      return JSON.parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: `must be JSON: ${(error as Error).message}` });
      return z.NEVER;
    }
  });
  return parsed.pipe(settings).default({});
}

const MIB = 1024 * 1024;
/** A hundred years: times beyond it are none to PostgreSQL. */
const LONGEST_RETENTION_MS = 100 * 365 * 24 * 3_600_000;
const MOST_PROCESSES = 64;
/** What an upload may ask for unless configured. */
const MAX_MEMORY_MIB = 4_096;
const MAX_CPU_MILLIS = 4_000;
const LARGEST_POOL = 1_000;
/** By default, for each manager of a cluster. */
const CLUSTER_POOL = 2;

const environment = z.object({
  LISTEN_ADDR: z.string().default(':8080'),
  MANAGER_WORKERS: processes(),
  API_KEYS: z.string().default(''),
  AUTH_DISABLED: flag(false),
  CORS_ORIGINS: z.string().default(''),
  FUNCTIONS_DOMAIN: z
    .string()
    .toLowerCase()
    .regex(/^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$/, {
      error: 'must be a domain, such as functions.example.org',
    })
    .default(''),
  REQUEST_TIMEOUT_MS: integer(60_000, 1_000, 3_600_000),
  SHUTDOWN_DELAY_MS: integer(0, 0, 120_000),
  DRAIN_TIMEOUT_MS: integer(30_000, 0, 3_600_000),

  DATABASE_URL: z.string().optional(),
  POSTGRES_HOST: z.string().optional(),
  POSTGRES_PORT: integer(5432, 1, 65_535),
  POSTGRES_USER: z.string().default('postgres'),
  POSTGRES_PASSWORD: z.string().optional(),
  POSTGRES_DB: z
    .string()
    .regex(/^(?!\.{1,2}$)[^;/?:@&=+$,#%]+$/, {
      error: 'must be a plain database name, without characters of URL syntax',
    })
    .default('faasdb'),
  DATABASE_POOL_SIZE: integer(10, 2, 500),
  FUNCTION_STORAGE_DIR: z.string().default('.data'),
  SECRETS_KEYS: z.string().default(''),

  MAX_UPLOAD_BYTES: integer(10 * MIB, 1, 256 * MIB),
  MAX_PAYLOAD_BYTES: integer(6 * MIB, 1, 64 * MIB),
  STREAM_IDLE_TIMEOUT_MS: integer(60_000, 100, LONGEST_TIMEOUT_MS),
  WEBSOCKETS_MOST: integer(4096, 0, 1_000_000),
  WEBSOCKETS_PER_FUNCTION: integer(1024, 0, 1_000_000),
  QUEUE_PER_FUNCTION: integer(256, 0, 100_000),
  MAX_HELD_BYTES: whole(1, Number.MAX_SAFE_INTEGER).optional(),

  INVOCATIONS_CONCURRENCY: integer(256, 1, 10_000),
  INVOCATIONS_PER_FUNCTION: integer(250_000, 1, 100_000_000),
  INVOCATIONS_MOST: integer(1_000_000, 1, 100_000_000),
  INVOCATIONS_BYTES_PER_FUNCTION: integer(1024 * MIB, 1, Number.MAX_SAFE_INTEGER),
  INVOCATIONS_MOST_BYTES: integer(4096 * MIB, 1, Number.MAX_SAFE_INTEGER),
  INVOCATIONS_MAX_ATTEMPTS: integer(3, 1, MOST_ATTEMPTS),
  INVOCATIONS_BACKOFF_MS: integer(1_000, 0, LONGEST_AGE_MS),
  INVOCATIONS_MAX_BACKOFF_MS: integer(300_000, 1, LONGEST_AGE_MS),
  INVOCATIONS_MAX_AGE_MS: integer(24 * 3_600_000, 1_000, LONGEST_AGE_MS),
  INVOCATIONS_RETENTION_MS: integer(7 * 24 * 3_600_000, 1_000, 365 * 24 * 3_600_000),
  INVOCATIONS_RESULT_BYTES: integer(MIB, 0, 64 * MIB),
  // Together no longer than a call of a manager that was killed may take to be tried again.
  INVOCATIONS_LEASE_MS: integer(5_000, 500, 600_000),
  INVOCATIONS_POLL_MS: integer(2_000, 50, 600_000),

  SCHEDULES_PER_FUNCTION: integer(100, 1, 10_000),
  SCHEDULES_MOST: integer(10_000, 1, 1_000_000),
  HISTORY: z.enum(['on', 'off'], { error: 'must be on or off' }).default('on'),
  HISTORY_RETENTION_MS: integer(7 * 24 * 3_600_000, 60_000, LONGEST_RETENTION_MS),
  HISTORY_MOST_ROWS: integer(10_000_000, 1_000, 100_000_000_000),
  HISTORY_MOST_BYTES: integer(8192 * MIB, 16 * MIB, Number.MAX_SAFE_INTEGER),
  HISTORY_PAYLOAD_BYTES: integer(65_536, 0, MIB),

  CALLBACKS_SECRETS: z.string().default(''),
  CALLBACKS_ALLOW: z.string().default(''),
  CALLBACKS_TIMEOUT_MS: integer(10_000, 100, 120_000),
  CALLBACKS_MAX_ATTEMPTS: integer(10, 1, MOST_ATTEMPTS),
  CALLBACKS_BACKOFF_MS: integer(5_000, 1, 3_600_000),

  DEFAULT_TIMEOUT_MS: integer(30_000, 1, LONGEST_TIMEOUT_MS),
  MAX_TIMEOUT_MS: integer(900_000, 1, LONGEST_TIMEOUT_MS),
  REVISIONS_KEPT: integer(20, 1, 1_000),
  REVISION_RETENTION_MS: integer(0, 0, LONGEST_RETENTION_MS),
  READY_TIMEOUT_MS: integer(60_000, 100, 3_600_000),
  IDLE_TIMEOUT_MS: integer(600_000, 0, LONGEST_IDLE_MS),
  MIN_REPLICAS: integer(0, 0, 100),
  MAX_REPLICAS: integer(10, 1, MOST_REPLICAS),
  SCALE_INTERVAL_MS: integer(1_000, 50, 600_000),
  SCALE_DOWN_WINDOW_MS: integer(60_000, 1_000, 3_600_000),
  REPLICAS_MEMORY_MIB: integer(Math.floor((totalmem() / MIB) * 0.8), 32, 1_073_741_824),
  WORKER_CONCURRENCY: integer(32, 1, MOST_CONCURRENCY),
  WORKER_MEMORY_MIB: integer(512, 32, MOST_MEMORY_MIB),
  MAX_MEMORY_MIB: whole(32, MOST_MEMORY_MIB).optional(),
  WORKER_CPU_MILLIS: integer(1_000, 10, MOST_CPU_MILLIS),
  MAX_CPU_MILLIS: whole(10, MOST_CPU_MILLIS).optional(),
  WORKER_PIDS: integer(256, 16, 32_768),
  WARM_POOL_SIZE: poolSize(),
  WARM_POOL_LEASE_MS: integer(30_000, 1_000, 600_000),

  DEPLOYMENT_ENV: z
    .enum(['docker', 'kubernetes', 'process'], { error: 'must be docker, kubernetes or process, or be left out' })
    .optional(),
  WORKER_IMAGE: z.string().min(1).default('faas-worker:local'),
  HARBOR_URL: z.string().optional(),
  HARBOR_USER: z.string().optional(),
  HARBOR_PASS: z.string().optional(),
  DOCKER_NETWORK: z
    .string()
    .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, { error: 'must be a Docker network name' })
    .default('faas-workers'),
  WORKER_NETWORK_INTERNAL: flag(false),
  WORKER_REACH: z
    .enum(['auto', 'published', 'address'], { error: 'must be auto, published or address' })
    .default('auto'),
  WORKER_FIREWALL: z.enum(['auto', 'required', 'off'], { error: 'must be auto, required or off' }).default('auto'),
  WORKER_EGRESS_ALLOW: z.string().default(''),
  WORKER_SECCOMP: z.enum(['own', 'engine'], { error: 'must be own or engine' }).default('own'),
  WORKER_RUNTIME: z
    .string()
    .regex(/^([a-zA-Z0-9][\w.-]*)?$/, {
      error: 'must be the name of a runtime that the engine knows, such as crun or runsc',
    })
    .default(''),
  KUBECONFIG: z.string().optional(),
  KUBERNETES_SERVICE_HOST: z.string().optional(),
  KUBERNETES_NAMESPACE: name('a namespace').default('scadable-faas'),
  KUBERNETES_IMAGE_PULL_POLICY: z
    .enum(['IfNotPresent', 'Always', 'Never'], { error: 'must be IfNotPresent, Always or Never' })
    .default('IfNotPresent'),
  KUBERNETES_IMAGE_PULL_SECRET: name("a Secret's name").optional(),
  KUBERNETES_RUNTIME_CLASS: name("a RuntimeClass's name").optional(),
  KUBERNETES_HOST_USERS: flag(true),
  KUBERNETES_WORKER_PODS: workerPods(),
  KUBERNETES_POOL_PRIORITY_CLASS: name("a PriorityClass's name").optional(),
  KUBERNETES_WORKER_SERVICE_ACCOUNT: name("a ServiceAccount's name").default('faas-worker'),
  KUBERNETES_REACH: z
    .enum(['auto', 'pod', 'service', 'proxy'], { error: 'must be auto, pod, service or proxy' })
    .default('auto'),
  KUBERNETES_LAYERS_CLAIM: name("a PersistentVolumeClaim's name").optional(),
  KUBERNETES_REQUEST_CPU_MILLIS: integer(100, 1, 1_024_000),
  KUBERNETES_REQUEST_MEMORY_MIB: integer(128, 1, 1_048_576),
  KUBERNETES_SCHEDULING_PATIENCE_MS: integer(10_000, 0, 3_600_000),
  HPA_MAX_REPLICAS: integer(20, 1, 10_000),
  HPA_CPU_PERCENT: integer(70, 1, 10_000),
  HPA_MEMORY_PERCENT: integer(80, 1, 10_000),
  HPA_UP_WINDOW_SECONDS: integer(30, 0, 3_600),
  HPA_UP_PODS: integer(2, 1, 1_000),
  HPA_UP_PERIOD_SECONDS: integer(15, 1, 1_800),
  HPA_DOWN_WINDOW_SECONDS: integer(120, 0, 3_600),
  HPA_DOWN_PODS: integer(1, 1, 1_000),
  HPA_DOWN_PERIOD_SECONDS: integer(60, 1, 1_800),

  WORKER_PYTHON: z.string().default('.cache/worker-venv/bin/python'),
  WORKER_DIR: z.string().default('apps/worker'),
  PROCESS_RUNTIME_DIR: z.string().default(resolve(tmpdir(), 'faas')),

  PYTHON_INDEX_URL: z.string().optional(),
  PYTHON_INDEX_USER: z.string().optional(),
  PYTHON_INDEX_PASSWORD: z.string().optional(),
  PYTHON_EXTRA_INDEX_URLS: z.string().default(''),
  PYTHON_WHEELS_DIR: z.string().optional(),
  ALLOW_SDISTS: flag(false),
  ALLOW_URL_REQUIREMENTS: flag(false),
  BUILD_TIMEOUT_MS: integer(300_000, 1_000, 3_600_000),
  BUILD_MEMORY_MIB: integer(1_024, 64, MOST_MEMORY_MIB),
  BUILD_CONCURRENCY: integer(2, 1, 64),
  BUILD_CACHE_MIB: integer(4_096, 1, 1_048_576),
  MAX_LAYER_MIB: integer(512, 1, 16_384),
  MAX_LAYER_FILES: integer(50_000, 1, 1_000_000),
  LAYER_RETENTION_MS: integer(7 * 24 * 3_600_000, 0, LONGEST_RETENTION_MS),
  BUILDER_IMAGE: z.string().default('faas-builder:local'),
  BUILDER_UV: z.string().default('.cache/builder/bin/uv'),
  LAYERS_DIR: z.string().optional(),
  LAYERS_ADDR: z.string().optional(),
  LAYERS_URL: z.string().optional(),
  DOCKER_LAYERS_VOLUME: z
    .string()
    .regex(/^[a-zA-Z0-9][\w.-]{1,200}$/, { error: 'must be the name of a Docker volume' })
    .optional(),

  RECONCILE_CONCURRENCY: integer(16, 1, 1_000),
  RECONCILE_POLL_MS: integer(2_000, 50, 600_000),
  // Shorter than calls wait for a replica, so that the next one survives a manager that is killed in a step.
  RECONCILE_LEASE_MS: integer(6_000, 1_000, 600_000),
  RECONCILE_RESYNC_MS: integer(60_000, 500, 86_400_000),
  // Longer than an engine takes for anything that it does at all.
  RECONCILE_STEP_TIMEOUT_MS: integer(120_000, 1_000, 3_600_000),
  ORPHAN_SWEEP_MS: integer(60_000, 500, 86_400_000),

  METRICS_MAX_FUNCTIONS: integer(500, 0, 100_000),
  METRICS_PUBLIC: flag(false),

  LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'], {
      error: 'must be trace, debug, info, warn, error or silent',
    })
    .default('info'),
  LOG_FORMAT: z.enum(['json', 'pretty'], { error: 'must be json or pretty' }).default('json'),
});

type Environment = z.infer<typeof environment>;

/**
 * Parses the environment, and the files it names for secrets; throws {@link InvalidConfig} with every fault. An empty
 * variable counts as unset.
 */
export function loadConfig(variables: NodeJS.ProcessEnv): Config {
  const set = Object.fromEntries(Object.entries(variables).filter(([, value]) => value !== undefined && value !== ''));
  const { variables: given, faults, faulty } = readSecretFiles(set);
  if (faults.length === 0) return parse(given);
  throw new InvalidConfig([...faults, ...furtherFaults(given, faulty)]);
}

function parse(given: NodeJS.ProcessEnv): Config {
  const parsed = environment.safeParse(given);
  if (!parsed.success) throw new InvalidConfig(everyFault(given, parsed.error.issues));

  const env = parsed.data;
  const faults: string[] = [];
  const auth = authOf(env, faults);
  const server = serverOf(env, auth, faults);
  const database = databaseOf(env, faults);
  const registry = registryOf(env, faults);
  const firewall = firewallOf(env, faults);
  const secrets = secretsOf(env, database, faults);
  const limits = limitsOf(env, faults);
  const callbacks = callbacksOf(env, faults);
  if (env.DEFAULT_TIMEOUT_MS > env.MAX_TIMEOUT_MS) {
    faults.push(
      `DEFAULT_TIMEOUT_MS (${env.DEFAULT_TIMEOUT_MS}) must not exceed MAX_TIMEOUT_MS (${env.MAX_TIMEOUT_MS})`,
    );
  }
  const maxMemoryMiB = env.MAX_MEMORY_MIB ?? Math.max(MAX_MEMORY_MIB, env.WORKER_MEMORY_MIB);
  if (env.WORKER_MEMORY_MIB > maxMemoryMiB) {
    faults.push(`WORKER_MEMORY_MIB (${env.WORKER_MEMORY_MIB}) must not exceed MAX_MEMORY_MIB (${maxMemoryMiB})`);
  }
  const maxCpuMillis = env.MAX_CPU_MILLIS ?? Math.max(MAX_CPU_MILLIS, env.WORKER_CPU_MILLIS);
  if (env.WORKER_CPU_MILLIS > maxCpuMillis) {
    faults.push(`WORKER_CPU_MILLIS (${env.WORKER_CPU_MILLIS}) must not exceed MAX_CPU_MILLIS (${maxCpuMillis})`);
  }
  if (env.MIN_REPLICAS > Math.min(env.MAX_REPLICAS, env.HPA_MAX_REPLICAS)) {
    faults.push(`MIN_REPLICAS (${env.MIN_REPLICAS}) must not exceed MAX_REPLICAS and HPA_MAX_REPLICAS`);
  }
  const layers = layersOf(env, faults);
  if (!server || !database || faults.length > 0) throw new InvalidConfig(faults);

  return {
    server,
    auth,
    database,
    limits,
    invocations: invocationsOf(env, callbacks),
    schedules: { perFunction: env.SCHEDULES_PER_FUNCTION, most: env.SCHEDULES_MOST },
    history: {
      isOn: env.HISTORY === 'on',
      retentionMs: env.HISTORY_RETENTION_MS,
      mostRows: env.HISTORY_MOST_ROWS,
      mostBytes: env.HISTORY_MOST_BYTES,
      payloadBytes: env.HISTORY_PAYLOAD_BYTES,
    },
    secrets,
    functions: {
      timeoutMs: env.DEFAULT_TIMEOUT_MS,
      maxTimeoutMs: env.MAX_TIMEOUT_MS,
      concurrency: env.WORKER_CONCURRENCY,
      memoryMiB: env.WORKER_MEMORY_MIB,
      maxMemoryMiB,
      cpuMillis: env.WORKER_CPU_MILLIS,
      maxCpuMillis,
      pids: env.WORKER_PIDS,
      idleTimeoutMs: env.IDLE_TIMEOUT_MS,
      minReplicas: env.MIN_REPLICAS,
      revisionsKept: env.REVISIONS_KEPT,
      revisionRetentionMs: env.REVISION_RETENTION_MS,
      readyTimeoutMs: env.READY_TIMEOUT_MS,
    },
    orchestrator: {
      engine: env.DEPLOYMENT_ENV,
      docker: {
        image: env.WORKER_IMAGE,
        registry,
        network: env.DOCKER_NETWORK,
        internal: env.WORKER_NETWORK_INTERNAL,
        reach: env.WORKER_REACH,
        firewall,
        seccomp: env.WORKER_SECCOMP,
        runtime: env.WORKER_RUNTIME,
        layers,
      },
      kubernetes: kubernetesOf(env, layers),
      process: {
        python: resolve(env.WORKER_PYTHON),
        workerDir: resolve(env.WORKER_DIR),
        runtimeDir: resolve(env.PROCESS_RUNTIME_DIR),
        layers,
      },
      pool: {
        size: env.WARM_POOL_SIZE === 'auto' ? poolSizeFor(totalmem()) : env.WARM_POOL_SIZE,
        leaseMs: env.WARM_POOL_LEASE_MS,
        memoryMiB: env.WORKER_MEMORY_MIB,
        cpuMillis: env.WORKER_CPU_MILLIS,
        pids: env.WORKER_PIDS,
      },
      clusterPoolSize: env.WARM_POOL_SIZE === 'auto' ? CLUSTER_POOL : env.WARM_POOL_SIZE,
    },
    layers,
    reconcile: {
      pollMs: env.RECONCILE_POLL_MS,
      leaseMs: env.RECONCILE_LEASE_MS,
      resyncMs: env.RECONCILE_RESYNC_MS,
      concurrency: env.RECONCILE_CONCURRENCY,
      stepTimeoutMs: env.RECONCILE_STEP_TIMEOUT_MS,
      orphanSweepMs: env.ORPHAN_SWEEP_MS,
    },
    scale: {
      intervalMs: env.SCALE_INTERVAL_MS,
      downWindowMs: env.SCALE_DOWN_WINDOW_MS,
      maxReplicas: env.MAX_REPLICAS,
      maxClusterReplicas: env.HPA_MAX_REPLICAS,
      memoryMiB: env.REPLICAS_MEMORY_MIB,
    },
    metrics: { maxFunctions: env.METRICS_MAX_FUNCTIONS, public: env.METRICS_PUBLIC },
    log: { level: env.LOG_LEVEL, pretty: env.LOG_FORMAT === 'pretty' },
  };
}

const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

function kubernetesOf(env: Environment, layers: LayersConfig): KubernetesConfig {
  return {
    layers,
    kubeconfig: env.KUBECONFIG,
    insideCluster: env.KUBERNETES_SERVICE_HOST !== undefined && existsSync(SERVICE_ACCOUNT_TOKEN),
    namespace: env.KUBERNETES_NAMESPACE,
    image: env.WORKER_IMAGE,
    imagePullPolicy: env.KUBERNETES_IMAGE_PULL_POLICY,
    imagePullSecret: env.KUBERNETES_IMAGE_PULL_SECRET,
    runtimeClass: env.KUBERNETES_RUNTIME_CLASS,
    hostUsers: env.KUBERNETES_HOST_USERS,
    workerPods: env.KUBERNETES_WORKER_PODS,
    poolPriorityClass: env.KUBERNETES_POOL_PRIORITY_CLASS,
    workerServiceAccount: env.KUBERNETES_WORKER_SERVICE_ACCOUNT,
    reach: env.KUBERNETES_REACH,
    layersClaim: env.KUBERNETES_LAYERS_CLAIM,
    requests: { cpuMillis: env.KUBERNETES_REQUEST_CPU_MILLIS, memoryMiB: env.KUBERNETES_REQUEST_MEMORY_MIB },
    autoscale: {
      maxReplicas: env.HPA_MAX_REPLICAS,
      cpuPercent: env.HPA_CPU_PERCENT,
      memoryPercent: env.HPA_MEMORY_PERCENT,
      upWindowSeconds: env.HPA_UP_WINDOW_SECONDS,
      upPods: env.HPA_UP_PODS,
      upPeriodSeconds: env.HPA_UP_PERIOD_SECONDS,
      downWindowSeconds: env.HPA_DOWN_WINDOW_SECONDS,
      downPods: env.HPA_DOWN_PODS,
      downPeriodSeconds: env.HPA_DOWN_PERIOD_SECONDS,
    },
    schedulingPatienceMs: env.KUBERNETES_SCHEDULING_PATIENCE_MS,
  };
}

/** The faulty variables, and what is wrong with the others, except for what may only follow from a faulty one. */
function everyFault(given: NodeJS.ProcessEnv, issues: readonly z.core.$ZodIssue[]): string[] {
  const found = issues.map((issue) => `${issue.path.join('.')} ${issue.message}`);
  // A variable may hold a document, with a fault somewhere in it.
  const faulty = issues.map((issue) => String(issue.path[0]));
  return [...found, ...furtherFaults(given, faulty)];
}

function furtherFaults(given: NodeJS.ProcessEnv, faulty: readonly string[]): readonly string[] {
  try {
    parse(Object.fromEntries(Object.entries(given).filter(([name]) => !faulty.includes(name))));
    return [];
  } catch (error) {
    if (!(error instanceof InvalidConfig)) throw error;
    return error.faults.filter((fault) => !faulty.some((name) => fault.includes(name)));
  }
}

function authOf(env: Environment, faults: string[]): AuthConfig {
  const keys = parseApiKeys(env.API_KEYS, faults);
  if (env.AUTH_DISABLED && keys.length > 0) {
    faults.push('API_KEYS and AUTH_DISABLED=true contradict each other: remove one');
  }
  const origins = listOf(env.CORS_ORIGINS);
  for (const origin of origins.filter((text) => !isOrigin(text))) {
    faults.push(`CORS_ORIGINS: "${origin}" must be an exact origin such as https://console.example.org:8443`);
  }
  return {
    keys,
    disabled: env.AUTH_DISABLED,
    origins,
    functionsDomain: env.FUNCTIONS_DOMAIN,
    keyFile: resolve(env.FUNCTION_STORAGE_DIR, 'api-key'),
  };
}

/** As browsers send it: scheme, host and a port that isn't the scheme's own, in lower case, and nothing after it. */
function isOrigin(text: string): boolean {
  return /^https?:\/\/[^*]+$/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

function listOf(text: string): string[] {
  const entries = text.split(',').map((entry) => entry.trim());
  return entries.filter((entry) => entry !== '');
}

/** JSON may write one byte of text as six: \u0000. */
const LONGEST_ESCAPE = 6;

/** What one request within the limits may need in memory. */
export function largestRequestBytes(payloadBytes: number, uploadBytes: number): number {
  return Math.max(payloadBytes * LONGEST_ESCAPE, uploadBytes + LONGEST_REQUIREMENTS) + MIB;
}

function limitsOf(env: Environment, faults: string[]): LimitsConfig {
  const largest = largestRequestBytes(env.MAX_PAYLOAD_BYTES, env.MAX_UPLOAD_BYTES);
  const heldBytes = env.MAX_HELD_BYTES ?? Math.max(Math.floor(getHeapStatistics().heap_size_limit / 4), largest);
  if (heldBytes < largest) {
    faults.push(
      `MAX_HELD_BYTES (${heldBytes}) must be at least ${largest}: one request within MAX_PAYLOAD_BYTES and MAX_UPLOAD_BYTES may need that`,
    );
  }
  return {
    uploadBytes: env.MAX_UPLOAD_BYTES,
    payloadBytes: env.MAX_PAYLOAD_BYTES,
    queuePerFunction: env.QUEUE_PER_FUNCTION,
    streamIdleMs: env.STREAM_IDLE_TIMEOUT_MS,
    webSockets: env.WEBSOCKETS_MOST,
    webSocketsPerFunction: env.WEBSOCKETS_PER_FUNCTION,
    heldBytes,
  };
}

function invocationsOf(env: Environment, callbacks: CallbacksConfig): InvocationsConfig {
  return {
    concurrency: env.INVOCATIONS_CONCURRENCY,
    perFunction: env.INVOCATIONS_PER_FUNCTION,
    most: env.INVOCATIONS_MOST,
    bytesPerFunction: env.INVOCATIONS_BYTES_PER_FUNCTION,
    mostBytes: env.INVOCATIONS_MOST_BYTES,
    maxAttempts: env.INVOCATIONS_MAX_ATTEMPTS,
    backoffMs: env.INVOCATIONS_BACKOFF_MS,
    maxAgeMs: env.INVOCATIONS_MAX_AGE_MS,
    maxBackoffMs: env.INVOCATIONS_MAX_BACKOFF_MS,
    retentionMs: env.INVOCATIONS_RETENTION_MS,
    resultBytes: env.INVOCATIONS_RESULT_BYTES,
    leaseMs: env.INVOCATIONS_LEASE_MS,
    pollMs: env.INVOCATIONS_POLL_MS,
    callbacks,
  };
}

/** So that nobody can try them all. */
const SHORTEST_SECRET = 24;

function callbacksOf(env: Environment, faults: string[]): CallbacksConfig {
  const secrets = env.CALLBACKS_SECRETS.split(/[,\n]/)
    .map((secret) => secret.trim())
    .filter((secret) => secret !== '');
  if (secrets.some((secret) => secret.length < SHORTEST_SECRET)) {
    faults.push(`CALLBACKS_SECRETS must be texts of at least ${SHORTEST_SECRET} characters, parted by commas or lines`);
  }
  return {
    secrets,
    allow: rangesIn(env.CALLBACKS_ALLOW, 'CALLBACKS_ALLOW', faults),
    timeoutMs: env.CALLBACKS_TIMEOUT_MS,
    maxAttempts: env.CALLBACKS_MAX_ATTEMPTS,
    backoffMs: env.CALLBACKS_BACKOFF_MS,
  };
}

function serverOf(env: Environment, auth: AuthConfig, faults: string[]): ServerConfig | undefined {
  const address = parseListenAddress(env.LISTEN_ADDR);
  if (!address) {
    faults.push('LISTEN_ADDR must be host:port, [ipv6]:port or :port');
    return undefined;
  }
  const open = auth.disabled || auth.keys.length > 0;
  const narrowed = !open && isWildcard(address.host);
  if (!open && !narrowed && !isLoopback(address.host)) {
    faults.push(
      `LISTEN_ADDR ${env.LISTEN_ADDR} is not loopback and no API key is configured: set API_KEYS, or AUTH_DISABLED=true to let anybody in`,
    );
  }
  return {
    host: narrowed ? '127.0.0.1' : address.host,
    port: address.port,
    narrowedToLoopback: narrowed,
    processes: env.MANAGER_WORKERS,
    drainTimeoutMs: env.DRAIN_TIMEOUT_MS,
    shutdownDelayMs: env.SHUTDOWN_DELAY_MS,
    requestTimeoutMs: env.REQUEST_TIMEOUT_MS,
  };
}

function databaseOf(env: Environment, faults: string[]): DatabaseConfig | undefined {
  const poolSize = env.DATABASE_POOL_SIZE;
  if (env.DATABASE_URL !== undefined) {
    if (!/^postgres(ql)?:\/\//.test(env.DATABASE_URL) || !URL.canParse(env.DATABASE_URL)) {
      faults.push('DATABASE_URL must be a postgresql:// URL');
      return undefined;
    }
    return { kind: 'server', url: env.DATABASE_URL, poolSize };
  }
  if (env.POSTGRES_HOST !== undefined) {
    if (env.POSTGRES_PASSWORD === undefined) {
      faults.push('POSTGRES_PASSWORD is missing: POSTGRES_HOST names a server and there is no default password');
      return undefined;
    }
    const host = urlHostOf(env.POSTGRES_HOST);
    if (host === undefined) {
      faults.push('POSTGRES_HOST must be a host name, an IP address or the folder of a UNIX socket');
      return undefined;
    }
    const url = new URL(`postgresql://${host}`);
    url.port = String(env.POSTGRES_PORT);
    url.username = encodeURIComponent(env.POSTGRES_USER);
    url.password = encodeURIComponent(env.POSTGRES_PASSWORD);
    url.pathname = `/${encodeURIComponent(env.POSTGRES_DB)}`;
    return { kind: 'server', url: url.href, poolSize };
  }
  return { kind: 'embedded', dataDir: resolve(env.FUNCTION_STORAGE_DIR, 'postgres'), poolSize };
}

function secretsOf(env: Environment, database: DatabaseConfig | undefined, faults: string[]): SecretsConfig {
  const keys = parseSecretsKeys(env.SECRETS_KEYS, faults);
  const keyFile = resolve(env.FUNCTION_STORAGE_DIR, 'secrets-key');
  return { keys, keyFile, mayMakeKey: keys.length === 0 && database?.kind === 'embedded' };
}

function urlHostOf(host: string): string | undefined {
  if (isIPv6(host)) return host.includes('%') ? undefined : `[${host}]`;
  if (host.startsWith('/')) return encodeURIComponent(host);
  return /^[\w.-]+$/.test(host) ? host : undefined;
}

function firewallOf(env: Environment, faults: string[]): FirewallConfig {
  const allow = rangesIn(env.WORKER_EGRESS_ALLOW, 'WORKER_EGRESS_ALLOW', faults);
  if (env.WORKER_FIREWALL === 'off' && allow.length > 0) {
    faults.push('WORKER_EGRESS_ALLOW and WORKER_FIREWALL=off contradict each other: everything is open without rules');
  }
  return { mode: env.WORKER_FIREWALL, allow };
}

function rangesIn(text: string, variable: string, faults: string[]): EgressRange[] {
  return listOf(text).flatMap((entry) => {
    const range = parseEgressRange(entry);
    if (typeof range === 'object') return range;
    faults.push(`${variable}: "${entry}" ${range}`);
    return [];
  });
}

const PUBLIC_INDEX = 'https://pypi.org/simple';

function layersOf(env: Environment, faults: string[]): LayersConfig {
  const extraIndexUrls = listOf(env.PYTHON_EXTRA_INDEX_URLS);
  const indexUrl = env.PYTHON_INDEX_URL ?? (env.PYTHON_WHEELS_DIR === undefined ? PUBLIC_INDEX : undefined);
  const named = { PYTHON_INDEX_URL: indexUrl === undefined ? [] : [indexUrl], PYTHON_EXTRA_INDEX_URLS: extraIndexUrls };
  for (const [variable, urls] of Object.entries(named)) {
    if (urls.some((url) => !/^https?:\/\/\S+$/.test(url) || !URL.canParse(url))) {
      faults.push(`${variable} must name package indexes by http:// or https:// URLs`);
    }
  }
  const { PYTHON_INDEX_USER: user, PYTHON_INDEX_PASSWORD: password } = env;
  if ((user === undefined) !== (password === undefined)) {
    faults.push('PYTHON_INDEX_USER and PYTHON_INDEX_PASSWORD belong together: set both or neither');
  }
  return {
    indexUrl: indexUrl !== undefined && URL.canParse(indexUrl) ? withLogin(indexUrl, user, password) : indexUrl,
    extraIndexUrls,
    wheelsDir: env.PYTHON_WHEELS_DIR && resolve(env.PYTHON_WHEELS_DIR),
    allowSdists: env.ALLOW_SDISTS,
    allowUrls: env.ALLOW_URL_REQUIREMENTS,
    timeoutMs: env.BUILD_TIMEOUT_MS,
    memoryMiB: env.BUILD_MEMORY_MIB,
    largestMiB: env.MAX_LAYER_MIB,
    mostFiles: env.MAX_LAYER_FILES,
    concurrency: env.BUILD_CONCURRENCY,
    cacheMiB: env.BUILD_CACHE_MIB,
    retentionMs: env.LAYER_RETENTION_MS,
    image: env.BUILDER_IMAGE,
    volume: env.DOCKER_LAYERS_VOLUME,
    uv: resolve(env.BUILDER_UV),
    dir: env.LAYERS_DIR && resolve(env.LAYERS_DIR),
    served: servedLayersOf(env, faults),
  };
}

function servedLayersOf(env: Environment, faults: string[]): ServedLayers | undefined {
  const { LAYERS_ADDR, LAYERS_URL, KUBERNETES_LAYERS_CLAIM } = env;
  if (LAYERS_ADDR === undefined && LAYERS_URL === undefined) {
    if (KUBERNETES_LAYERS_CLAIM !== undefined) {
      faults.push('KUBERNETES_LAYERS_CLAIM needs LAYERS_ADDR and LAYERS_URL, by which pods fetch what they put there');
    }
    return undefined;
  }
  if (LAYERS_ADDR === undefined || LAYERS_URL === undefined) {
    faults.push('LAYERS_ADDR and LAYERS_URL belong together: set both or neither');
    return undefined;
  }
  const address = parseListenAddress(LAYERS_ADDR);
  if (!address) faults.push('LAYERS_ADDR must be host:port, [ipv6]:port or :port');
  const isUrl = /^https?:\/\/[^\s?#@]+$/.test(LAYERS_URL) && URL.canParse(LAYERS_URL);
  if (!isUrl) faults.push('LAYERS_URL must be a plain http:// or https:// URL, without a login, a query or a fragment');
  return address && isUrl ? { ...address, url: LAYERS_URL.replace(/\/+$/, '') } : undefined;
}

function withLogin(index: string, user: string | undefined, password: string | undefined): string {
  if (user === undefined || password === undefined) return index;
  const url = new URL(index);
  url.username = encodeURIComponent(user);
  url.password = encodeURIComponent(password);
  return url.href;
}

function registryOf(env: Environment, faults: string[]): RegistryLogin | undefined {
  const given = [env.HARBOR_URL, env.HARBOR_USER, env.HARBOR_PASS];
  if (given.every((value) => value === undefined)) return undefined;
  if (env.HARBOR_URL === undefined || env.HARBOR_USER === undefined || env.HARBOR_PASS === undefined) {
    faults.push('HARBOR_URL, HARBOR_USER and HARBOR_PASS belong together: set all three or none');
    return undefined;
  }
  return { url: env.HARBOR_URL, username: env.HARBOR_USER, password: env.HARBOR_PASS };
}
