import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CoreV1Api, KubeConfig, VersionApi } from '@kubernetes/client-node';
import { oneTimeToken } from '#libs/orchestrator/generic-worker.js';
import { isGeneric } from './health.mjs';

/** As the cluster's nodes know it. */
const IMAGE = process.env.WORKER_IMAGE || 'docker.io/library/faas-worker:local';
const PORT = 8000;
const EVERY_MS = 50;
const START_MS = 60_000;
const REACH_MS = 5_000;
const GONE_MS = 120_000;
const OWNER = 'faas.owner';
const ANSWERS = 'its pods answer this machine';

/** Functions as pods of the cluster that `KUBECONFIG` names, in a namespace that only this run uses. */
export class KubernetesEngine {
  name = 'kubernetes';
  #admin;
  #core;
  #kubeconfig;
  #namespace = `faas-bench-${randomBytes(4).toString('hex')}`;

  constructor(admin, kubeconfig) {
    this.#admin = admin;
    this.#core = admin.makeApiClient(CoreV1Api);
    this.#kubeconfig = kubeconfig;
  }

  /** Throws with a word about what is missing. */
  static async open(stage) {
    const admin = clusterOf(process.env.KUBECONFIG);
    const kubeconfig = join(await mkdtemp(join(stage.folder, 'k')), 'config');
    await writeFile(kubeconfig, admin.exportConfig(), { mode: 0o600 });
    const engine = new KubernetesEngine(admin, kubeconfig);
    await stage.undo.add(() => engine.clear());
    await engine.#prepare();
    return engine;
  }

  /** What the manager is told. */
  get environment() {
    return {
      DEPLOYMENT_ENV: 'kubernetes',
      KUBECONFIG: this.#kubeconfig,
      KUBERNETES_NAMESPACE: this.#namespace,
      KUBERNETES_REACH: 'pod',
      WORKER_IMAGE: IMAGE,
      HPA_MAX_REPLICAS: '1',
    };
  }

  async describe() {
    return `Kubernetes ${(await this.#admin.makeApiClient(VersionApi).getCode()).gitVersion}`;
  }

  /** Workers that wait for a function, and whether all of them are up; everything else that runs or is leaving. */
  async census() {
    const pods = await this.#pods(OWNER);
    const pool = pods.filter(({ metadata: { labels, deletionTimestamp } }) => {
      return labels['faas.pool'] !== undefined && labels['faas.function'] === undefined && !deletionTimestamp;
    });
    const up = await Promise.all(pool.map(({ status }) => status.podIP !== undefined && isGeneric(targetOf(status))));
    return { generic: pool.length, areUp: up.every(Boolean), others: pods.length - pool.length };
  }

  /** A pod of the same image without a manager, up and waiting for a function: told so by these variables. */
  async startGeneric(environment) {
    const namespace = this.#namespace;
    const { metadata } = await this.#core.createNamespacedPod({ namespace, body: podWith(environment) });
    const { name } = metadata;
    const end = () => this.#core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 });
    const status = await this.#until(START_MS, async () => {
      const { status } = await this.#core.readNamespacedPod({ namespace, name });
      return status.phase === 'Running' ? status : `a pod of ${IMAGE} runs: ${whyNot(status)}`;
    });
    await this.#until(REACH_MS, async () => (await isGeneric(targetOf(status))) || ANSWERS);
    return { target: (path) => ({ ...targetOf(status), path }), end };
  }

  /** What a manager leaves goes with the namespace. */
  async clearOf() {}

  /** Ends everything in the namespace, without its grace, and removes it. */
  async clear() {
    const namespace = this.#namespace;
    const removed = await this.#core.deleteNamespace({ name: namespace }).catch(ignoreMissing);
    if (removed === undefined) return;
    await this.#until(GONE_MS, async () => {
      await this.#core.deleteCollectionNamespacedPod({ namespace, gracePeriodSeconds: 0 }).catch(ignoreMissing);
      const left = await this.#core.readNamespace({ name: namespace }).catch(ignoreMissing);
      return left === undefined || `the namespace ${namespace} is gone`;
    });
  }

  /** What `k8s/functions` has and workers need, and one worker, so that whatever is missing is told in one way. */
  async #prepare() {
    const name = this.#namespace;
    try {
      await this.#core.createNamespace({ body: { metadata: { name } } });
    } catch (error) {
      throw new Error(`The cluster of KUBECONFIG can't be used: ${error.message}`, { cause: error });
    }
    await this.#core.createNamespacedServiceAccount({ namespace: name, body: { metadata: { name: 'faas-worker' } } });
    const { sha256 } = oneTimeToken();
    const trial = await this.startGeneric({ FAAS_SPECIALISE_SHA256: sha256, FAAS_GENERIC_LEASE_MS: '60000' });
    await trial.end();
  }

  async #pods(labelSelector) {
    return (await this.#core.listNamespacedPod({ namespace: this.#namespace, labelSelector })).items;
  }

  /** Looks until it sees what it waits for; a text says what that is. */
  async #until(withinMs, look) {
    const until = performance.now() + withinMs;
    for (;;) {
      const seen = await look();
      if (typeof seen !== 'string') return seen;
      if (performance.now() > until) throw new Error(`The cluster of KUBECONFIG: it isn't so that ${seen}.`);
      await delay(EVERY_MS);
    }
  }
}

/** This makes and removes a namespace, so nobody's default cluster is taken: it must be named. */
function clusterOf(given) {
  if (!given) throw new Error('KUBECONFIG is not set: name the kubeconfig of a cluster that benchmarks may use.');
  const missing = given.split(delimiter).find((path) => path !== '' && !existsSync(path));
  if (missing !== undefined) throw new Error(`KUBECONFIG names ${missing}, which doesn't exist.`);
  const config = new KubeConfig();
  config.loadFromDefault();
  return config;
}

function podWith(environment) {
  return {
    metadata: { generateName: 'by-hand-' },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'worker',
          image: IMAGE,
          imagePullPolicy: 'IfNotPresent',
          env: Object.entries({ ...environment, HOME: '/tmp' }).map(([name, value]) => ({ name, value })),
          resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { cpu: '500m', memory: '512Mi' } },
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }],
        },
      ],
      volumes: [{ name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: '64Mi' } }],
    },
  };
}

function targetOf({ podIP }) {
  return { origin: `http://${podIP.includes(':') ? `[${podIP}]` : podIP}:${PORT}`, path: '/' };
}

function whyNot({ phase, containerStatuses, conditions }) {
  const waiting = containerStatuses?.[0]?.state?.waiting;
  const unscheduled = conditions?.find(({ status, message }) => status === 'False' && message !== undefined);
  return [phase, waiting?.reason, waiting?.message ?? unscheduled?.message].filter(Boolean).join(', ');
}

function ignoreMissing(error) {
  if (error.code === 404) return undefined;
  throw error;
}
