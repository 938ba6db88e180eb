import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { AutoscalingV2Api, CoreV1Api, type KubeConfig, KubernetesObjectApi, type V1Pod } from '@kubernetes/client-node';
import { quantity } from '../node/quantity.js';

const GROUP_VERSION = 'metrics.k8s.io/v1beta1';
const POD_METRICS = {
  kind: 'APIResourceList',
  apiVersion: 'v1',
  groupVersion: GROUP_VERSION,
  resources: [{ name: 'pods', singularName: '', namespaced: true, kind: 'PodMetrics', verbs: ['get', 'list'] }],
};
/** Just below what would ask for one replica more. */
const ROUNDING = 0.99;

/** The load that a test makes up: what it asks a Deployment's autoscaler for; without `replicas` the pods are idle. */
export interface Load {
  readonly namespace: string;
  readonly autoscaler: string;
  readonly replicas?: number | undefined;
}

/** Takes metrics-server's place: autoscalers read from it what the load of their pods is. */
export class Metrics {
  private readonly loads = new Map<string, number>();
  private readonly core: CoreV1Api;
  private readonly autoscaling: AutoscalingV2Api;
  private readonly server: Server;

  private constructor(
    private readonly admin: KubeConfig,
    certificate: { readonly cert: string; readonly key: string },
  ) {
    this.core = admin.makeApiClient(CoreV1Api);
    this.autoscaling = admin.makeApiClient(AutoscalingV2Api);
    this.server = createServer(certificate, (request, response) => {
      this.answer(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
    });
  }

  static async start(admin: KubeConfig, certificate: { cert: string; key: string }): Promise<Metrics> {
    const metrics = new Metrics(admin, certificate);
    await new Promise<void>((resolve) => metrics.server.listen(0, '127.0.0.1', resolve));
    await metrics.register((metrics.server.address() as { port: number }).port);
    return metrics;
  }

  set({ namespace, autoscaler, replicas }: Load): void {
    if (replicas === undefined) this.loads.delete(`${namespace}/${autoscaler}`);
    else this.loads.set(`${namespace}/${autoscaler}`, replicas);
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async register(port: number): Promise<void> {
    const objects = KubernetesObjectApi.makeApiClient(this.admin);
    const [group = '', version] = GROUP_VERSION.split('/');
    await objects.create({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'metrics', namespace: 'kube-system' },
      spec: { type: 'ExternalName', externalName: 'localhost', ports: [{ port }] },
    });
    await objects.create({
      apiVersion: 'apiregistration.k8s.io/v1',
      kind: 'APIService',
      metadata: { name: `${version}.${group}` },
      spec: {
        group,
        version,
        service: { name: 'metrics', namespace: 'kube-system', port },
        insecureSkipTLSVerify: true,
        groupPriorityMinimum: 100,
        versionPriority: 100,
      },
    });
  }

  private async answer({ url = '/' }: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(url, 'https://metrics');
    const namespace = /\/namespaces\/([^/]+)\/pods$/.exec(pathname)?.[1];
    const body =
      namespace === undefined ? POD_METRICS : await this.podMetrics(namespace, searchParams.get('labelSelector') ?? '');
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  private async podMetrics(namespace: string, labelSelector: string): Promise<object> {
    const { items } = await this.core.listNamespacedPod({ namespace, labelSelector });
    const running = items.filter(({ status }) => status?.phase === 'Running');
    const share = await this.shareOf(namespace, running);
    return {
      kind: 'PodMetricsList',
      apiVersion: GROUP_VERSION,
      metadata: {},
      items: running.map((pod) => ({
        metadata: { name: pod.metadata?.name, namespace, labels: pod.metadata?.labels },
        timestamp: new Date().toISOString().replace(/\.\d+Z/, 'Z'),
        window: '1s',
        containers: (pod.spec?.containers ?? []).map(({ name, resources }) => {
          const request = quantity(resources?.requests?.['cpu']) ?? 0;
          const nanos = Math.round((request * 1e9 * share * ROUNDING) / running.length);
          return { name, usage: { cpu: `${nanos}n`, memory: '1Mi' } };
        }),
      })),
    };
  }

  /**
   * How much of what one pod asks for all together use, so that the autoscaler wants what the test wants; 0
   * where the test wants nothing.
   */
  private async shareOf(namespace: string, pods: readonly V1Pod[]): Promise<number> {
    const { items } = await this.autoscaling.listNamespacedHorizontalPodAutoscaler({ namespace });
    const deployments = new Set(pods.map(({ metadata }) => metadata?.name?.replace(/-[^-]+-[^-]+$/, '')));
    const mine = items.find(({ spec }) => deployments.has(spec?.scaleTargetRef.name));
    const replicas = this.loads.get(`${namespace}/${mine?.metadata?.name}`) ?? 0;
    const cpu = mine?.spec?.metrics?.find(({ resource }) => resource?.name === 'cpu')?.resource;
    return (replicas * (cpu?.target.averageUtilization ?? 0)) / 100;
  }
}
