import { randomBytes } from 'node:crypto';
import { HttpMethod, KubeConfig, RequestContext } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe } from 'vitest';
import { fetch } from 'undici';
import type { ApiOptions } from '../options.js';
import { type KubernetesApi, start } from '../start.js';

export interface Answer {
  readonly code: number;
  readonly headers: { get(name: string): string | null };
  // What an API answers is looked at as it is.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
}

const TYPES = {
  json: 'application/json',
  merge: 'application/merge-patch+json',
  apply: 'application/apply-patch+yaml',
} as const;

/** Requests as they are, without a client's opinions. */
export class Caller {
  readonly config: KubeConfig;
  readonly namespace: string;

  constructor(config: KubeConfig, namespace: string) {
    this.config = config;
    this.namespace = namespace;
  }

  /** `configmaps/a`, `apps/v1/deployments/b`, or an absolute path. */
  async call(method: string, path: string, body?: unknown, type: keyof typeof TYPES = 'json'): Promise<Answer> {
    const url = this.config.getCurrentCluster()?.server + this.pathOf(path);
    const context = new RequestContext(url, HttpMethod.GET);
    await this.config.applySecurityAuthentication(context);
    const response = await fetch(url, {
      method,
      headers: { ...context.getHeaders(), 'content-type': TYPES[type] },
      dispatcher: context.getDispatcher()!,
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') === true;
    return {
      code: response.status,
      headers: response.headers,
      body: isJson && !text.includes('}\n{') ? JSON.parse(text) : text,
    };
  }

  get = (path: string) => this.call('GET', path);
  post = (path: string, body: unknown) => this.call('POST', path, body);
  put = (path: string, body: unknown) => this.call('PUT', path, body);
  merge = (path: string, body: unknown) => this.call('PATCH', path, body, 'merge');
  delete = (path: string, body?: unknown) => this.call('DELETE', path, body);
  apply = (path: string, manager: string, body: unknown, force = false) =>
    this.call('PATCH', `${path}?fieldManager=${manager}&force=${force}`, body, 'apply');

  pathOf(path: string): string {
    if (path.startsWith('/')) return path;
    const [first = '', second = ''] = path.split('/');
    if (!/^v\d/.test(second)) return `/api/v1/namespaces/${this.namespace}/${path}`;
    return `/apis/${first}/${second}/namespaces/${this.namespace}/${path.split('/').slice(2).join('/')}`;
  }
}

export interface Target {
  readonly name: string;
  /** Only on the cluster in this process. */
  readonly fake: KubernetesApi | undefined;
  readonly admin: Caller;
  /** As manifests name the worker's image there. */
  readonly image: string;
}

/**
 * Runs a suite on the small Kubernetes of these tests and, as a part of `npm run test:kubernetes`, on a real cluster too,
 * in a namespace of its own: what the one does is true only if the other does it as well.
 */
export function describeOnClusters(
  title: string,
  suite: (target: () => Target) => void,
  options: ApiOptions = {},
): void {
  describeOnFake(title, suite, options);
  if (process.env['TEST_ENGINE'] === 'kubernetes')
    describeOn(`${title} (on the cluster of KUBECONFIG)`, suite, openReal);
}

export function describeOnFake(title: string, suite: (target: () => Target) => void, options: ApiOptions = {}): void {
  describeOn(title, suite, async () => {
    const fake = await start(options);
    const admin = new Caller(configOf(fake.kubeconfig('admin')), fake.namespace);
    return [{ name: 'fake', fake, admin, image: 'faas-worker:local' }, () => fake.stop()];
  });
}

type Open = () => Promise<[target: Target, close: () => Promise<unknown>]>;

function describeOn(title: string, suite: (target: () => Target) => void, open: Open): void {
  describe(title, () => {
    let opened: Awaited<ReturnType<Open>> | undefined;
    beforeAll(async () => {
      opened = await open();
    });
    afterAll(async () => {
      await opened?.[1]();
    });
    suite(() => opened![0]);
  });
}

async function openReal(): ReturnType<Open> {
  const config = new KubeConfig();
  config.loadFromDefault();
  const namespace = `api-spec-${randomBytes(4).toString('hex')}`;
  const admin = new Caller(config, namespace);
  const object = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } };
  const made = await admin.post('/api/v1/namespaces', object);
  if (made.code !== 201) throw new Error(`The namespace can't be made: ${JSON.stringify(made.body)}`);
  await until(
    'the namespace has its ServiceAccount',
    async () => (await admin.get('serviceaccounts/default')).code === 200,
  );
  const image = process.env['WORKER_IMAGE'] ?? 'docker.io/library/faas-worker:local';
  return [{ name: 'real', fake: undefined, admin, image }, () => admin.delete(`/api/v1/namespaces/${namespace}`)];
}

export function configOf(kubeconfig: string): KubeConfig {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  return config;
}

/** Looks until something truthy is seen, and answers that. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined> | T | undefined,
  deadlineMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + deadlineMs;
  for (let pause = 10; ; pause = Math.min(pause * 1.5, 250)) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}
