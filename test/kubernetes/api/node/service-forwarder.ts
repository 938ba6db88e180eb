import { createServer, connect, type Server } from 'node:net';
import type { Cluster } from '../cluster.js';
import { keyOf, Queue, splitKey } from '../controllers/queue.js';
import { fields, list } from '../rules/fields.js';
import { ENDPOINT_SLICES, SERVICES } from '../rest/resources.js';
import type { Change } from '../store/store.js';

interface Target {
  readonly host: string;
  readonly port: number;
}

interface Forward {
  readonly server: Server;
  targets: readonly Target[];
  turn: number;
}

/**
 * What kube-proxy does: connections to a Service's address go to its ready endpoints in turn, and are refused where
 * there are none.
 */
export class ServiceForwarder {
  private readonly forwards = new Map<string, Forward>();
  private readonly cluster: Cluster;
  private readonly queue = new Queue((key) => this.reconcile(key));

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  onChange({ resource, object }: Change): void {
    if (resource === SERVICES.key) this.queue.add(keyOf(object));
    const service = object.metadata.labels?.['kubernetes.io/service-name'];
    if (resource === ENDPOINT_SLICES.key && service !== undefined)
      this.queue.add(`${object.metadata.namespace}/${service}`);
  }

  stop(): void {
    this.queue.close();
    for (const key of this.forwards.keys()) this.close(key);
  }

  private reconcile(key: string): void {
    const [namespace, name] = splitKey(key);
    const service = this.cluster.store.get(SERVICES.key, namespace, name);
    const { clusterIP, ports } = fields(service?.spec);
    const open = new Set<string>();
    for (const port of list(ports)) {
      const targets = this.targets(namespace, name, port['name']);
      const forwardKey = `${key}:${Number(port['port'])}`;
      if (targets.length === 0 || clusterIP === 'None') continue;
      open.add(forwardKey);
      this.open(forwardKey, String(clusterIP), Number(port['port']), targets);
    }
    for (const known of this.forwards.keys()) if (known.startsWith(`${key}:`) && !open.has(known)) this.close(known);
  }

  private targets(namespace: string, service: string, portName: unknown): Target[] {
    const slices = this.cluster.store
      .list(ENDPOINT_SLICES.key, namespace)
      .filter(({ metadata }) => metadata.labels?.['kubernetes.io/service-name'] === service);
    return slices.flatMap((slice) => {
      const port = list(slice['ports']).find(({ name }) => (name ?? '') === (portName ?? ''))?.['port'];
      return list(slice['endpoints'])
        .filter(({ conditions }) => fields(conditions)['ready'] === true)
        .map(({ addresses }) => ({ host: String((addresses as string[])[0]), port: Number(port) }));
    });
  }

  private open(key: string, address: string, port: number, targets: readonly Target[]): void {
    const known = this.forwards.get(key);
    if (known !== undefined) {
      known.targets = targets;
      return;
    }
    const server = createServer((socket) => {
      const target = forward.targets[forward.turn++ % forward.targets.length];
      if (target === undefined) {
        socket.destroy();
        return;
      }
      const upstream = connect(target.port, target.host);
      socket.on('error', () => upstream.destroy()).once('close', () => upstream.destroy());
      upstream.on('error', () => socket.destroy()).once('close', () => socket.destroy());
      socket.pipe(upstream).pipe(socket);
    });
    const forward: Forward = { server, targets, turn: 0 };
    this.forwards.set(key, forward);
    server.on('error', () => this.close(key));
    server.listen(port, address);
  }

  private close(key: string): void {
    this.forwards.get(key)?.server.close();
    this.forwards.delete(key);
  }
}
