import { request as httpRequest } from 'node:http';
import type { Cluster } from '../cluster.js';
import { portNumber } from '../controllers/endpoint-slices.js';
import { isReady, type Pod } from '../controllers/types.js';
import type { Streams } from '../rest/api-server.js';
import type { ApiRequest } from '../rest/request.js';
import { badRequest, Refusal } from '../rest/problems.js';
import { PODS, SERVICES } from '../rest/resources.js';
import { fields, list } from '../rules/fields.js';
import { isLeaving } from '../store/objects.js';
import { matchesLabels } from '../store/selectors.js';
import type { Container } from './container.js';
import type { Kubelet } from './kubelet.js';
import type { LogLine } from './log.js';

const PROXY_VERBS: Readonly<Record<string, string>> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};
const WAITING: Readonly<Record<string, string>> = {
  ErrImagePull: "image can't be pulled",
  ImagePullBackOff: 'trying and failing to pull image',
};

/** The log of a pod, and the way through the API server to its ports. */
export class NodeStreams implements Streams {
  private readonly cluster: Cluster;
  private readonly kubelet: Kubelet;

  constructor(cluster: Cluster, kubelet: Kubelet) {
    this.cluster = cluster;
    this.kubelet = kubelet;
  }

  async serve(request: ApiRequest, authorize: (verb: string) => void): Promise<void> {
    const { route, message } = request;
    if (route.subresource === 'log') {
      authorize('get');
      return this.log(request);
    }
    authorize(PROXY_VERBS[message.method ?? ''] ?? 'get');
    return this.proxy(request);
  }

  private log({ route, query, response, message }: ApiRequest): void {
    const pod = this.cluster.get(PODS, route.namespace, route.name ?? '') as Pod;
    const previous = query.get('previous') === 'true';
    const log = this.containerFor(pod, query.get('container')).log(previous);
    const { name } = pod.metadata;
    const container = query.get('container') ?? String(fields(pod.spec.containers[0])['name']);
    if (log === undefined) {
      if (previous) throw badRequest(`previous terminated container "${container}" in pod "${name}" not found`);
      const { state } = this.containerFor(pod, query.get('container')).view;
      const reason = state.kind === 'waiting' ? (WAITING[state.reason] ?? state.reason) : state.kind;
      throw badRequest(`container "${container}" in pod "${name}" is waiting to start: ${reason}`);
    }
    const withTime = query.get('timestamps') === 'true';
    const write = ({ at, text }: LogLine) => response.write(`${withTime ? `${at} ` : ''}${text}\n`);
    const tail = query.get('tailLines');
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.flushHeaders();
    for (const line of log.tail(tail === null ? Infinity : Number(tail))) if (isSince(line, query)) write(line);
    if (query.get('follow') !== 'true' || log.ended) {
      response.end();
      return;
    }
    const stop = log.follow(write, () => response.end());
    message.once('close', stop);
    response.once('close', stop);
  }

  private containerFor(pod: Pod, name: string | null): Container {
    const { name: podName } = pod.metadata;
    const names = pod.spec.containers.map((one) => String(fields(one)['name']));
    if (name === null && names.length > 1) {
      throw badRequest(`a container name must be specified for pod ${podName}, choose one of: [${names.join(' ')}]`);
    }
    if (name !== null && !names.includes(name)) throw badRequest(`container ${name} is not valid for pod ${podName}`);
    const found = this.kubelet.containersOf(pod).find(({ view }) => view.name === (name ?? names[0]));
    if (found !== undefined) return found;
    throw badRequest(`pod ${podName} does not have a host assigned`);
  }

  private async proxy(request: ApiRequest): Promise<void> {
    const { route, message, response } = request;
    const [name = '', port = ''] = (route.name ?? '').replace(/^https?:/, '').split(':');
    const target =
      route.resource === PODS
        ? this.podTarget(route.namespace, name, port)
        : this.serviceTarget(route.namespace, name, port);
    const search = new URL(message.url ?? '/', 'http://localhost').search;
    const { authorization: _, host: __, ...headers } = message.headers;
    const forwarded = httpRequest({
      ...target,
      method: message.method,
      path: (route.rest || '/') + search,
      headers,
      agent: false,
    });
    await new Promise<void>((resolve, reject) => {
      forwarded.once('response', (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
        answer.once('close', resolve);
      });
      forwarded.once('error', (error: NodeJS.ErrnoException) => {
        const why = error.code === 'ECONNREFUSED' ? 'connect: connection refused' : error.message;
        const text = `error trying to reach service: dial tcp ${target.host}:${target.port}: ${why}`;
        reject(new Refusal(503, 'ServiceUnavailable', text));
      });
      response.once('close', () => forwarded.destroy());
      message.pipe(forwarded);
    });
  }

  private podTarget(namespace: string | undefined, name: string, port: string) {
    const pod = this.cluster.get(PODS, namespace, name) as Pod;
    const host = pod.status.podIP;
    if (host === undefined) throw new Refusal(500, 'InternalError', 'address not allowed');
    const first = pod.spec.containers.flatMap((one) => list(fields(one)['ports']))[0]?.['containerPort'];
    const number = /^\d+$/.test(port) ? Number(port) : (portNumber(pod, port) ?? Number(first ?? 80));
    return { host, port: number };
  }

  private serviceTarget(namespace: string | undefined, name: string, port: string) {
    const { selector, ports } = fields(this.cluster.get(SERVICES, namespace, name).spec);
    const chosen = list(ports).find((one) => port === '' || String(one['port']) === port || one['name'] === port);
    const pods = (this.cluster.store.list(PODS.key, namespace) as Pod[]).filter(
      (pod) =>
        matchesLabels({ matchLabels: selector as Record<string, string> }, pod.metadata.labels) &&
        isReady(pod) &&
        !isLeaving(pod),
    );
    const pod = pods[Math.floor(Math.random() * pods.length)];
    const number = pod && portNumber(pod, chosen?.['targetPort']);
    if (pod?.status.podIP === undefined || number === undefined) {
      throw new Refusal(503, 'ServiceUnavailable', `no endpoints available for service "${name}"`);
    }
    return { host: pod.status.podIP, port: number };
  }
}

function isSince({ at }: LogLine, query: URLSearchParams): boolean {
  const seconds = query.get('sinceSeconds');
  const since = seconds === null ? Date.parse(query.get('sinceTime') ?? '') : Date.now() - Number(seconds) * 1000;
  return !(Date.parse(at) < since);
}
