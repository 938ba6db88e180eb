import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import type { KubernetesConfig } from '#libs/config/config.js';
import type { Endpoint } from '#libs/orchestrator/workload.js';
import { ClusterAccess } from './cluster-access.js';
import { KubeApi } from './kube-api.js';
import { firstReach, reachByProbe } from './endpoint-routing.js';
import { FUNCTION, placementOf } from './testing/objects.js';
import { ClusterCache } from './cluster-cache.js';
import { EndpointRouting } from './endpoint-routing.js';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function listening(host = '127.0.0.1'): Promise<{ kind: 'tcp'; host: string; port: number }> {
  const server = createServer((socket) => void socket.on('error', () => undefined).end());
  servers.push(server.listen(0, host));
  await once(server, 'listening');
  return { kind: 'tcp', host, port: (server.address() as AddressInfo).port };
}

/** An address that refuses. */
async function silent(): Promise<{ kind: 'tcp'; host: string; port: number }> {
  const address = await listening();
  await new Promise((resolve) => servers.pop()!.close(resolve));
  return address;
}

describe('firstReach', () => {
  it.each([
    ['auto', true, 'pod'],
    ['auto', false, 'proxy'],
    ['pod', false, 'pod'],
    ['service', false, 'service'],
    ['proxy', true, 'proxy'],
  ] as const)('begins, asked for %s and inside a cluster: %s, with %s', (configured, insideCluster, reach) => {
    expect(firstReach({ configured, insideCluster })).toBe(reach);
  });
});

describe('reachByProbe', () => {
  it('prefers pods that answer, over IPv6 too', async () => {
    expect(await reachByProbe(await listening(), await listening())).toBe('pod');
    expect(await reachByProbe(await listening('::1'), undefined)).toBe('pod');
  });

  it('takes the Service where pods are out of reach', async () => {
    expect(await reachByProbe(await silent(), await listening())).toBe('service');
  });

  it('stays with the pods where nothing answers', async () => {
    expect(await reachByProbe(await silent(), await silent())).toBe('pod');
    expect(await reachByProbe(await silent(), undefined)).toBe('pod');
  });
});

describe('EndpointRouting', () => {
  function waysWith(config: Partial<KubernetesConfig>, clusterIP?: string) {
    const access = new ClusterAccess();
    const logger = pino({ level: 'silent' });
    const cache = new ClusterCache(access, new KubeApi(access, 'functions'), 'me', logger);
    const metadata = { name: `service-${FUNCTION}`, labels: { 'faas.function': FUNCTION } };
    if (clusterIP !== undefined) cache.services.learn({ metadata, spec: { clusterIP } });
    return new EndpointRouting(placementOf(config).config, access, cache, logger);
  }

  const pods: Endpoint[] = ['a/1', 'b/2'].map((replica, index) => ({
    replica,
    address: { kind: 'tcp', host: `10.0.0.${index}`, port: 8000 },
  }));

  it('goes straight to every pod', async () => {
    const routing = waysWith({ reach: 'pod' }, '10.96.0.7');
    expect(await routing.choose(FUNCTION, pods)).toBe(pods);
    expect(pods.map((pod) => routing.to(pod))).toEqual(pods.map(({ address }) => address));
  });

  it('goes to the one Service in front of them, as to another replica whenever they change', async () => {
    const routing = waysWith({ reach: 'service' }, 'fd00::7');
    const [endpoint, ...others] = await routing.choose(FUNCTION, pods);
    expect(others).toEqual([]);
    expect(endpoint?.address).toEqual({ kind: 'tcp', host: 'fd00::7', port: 80 });
    expect((await routing.choose(FUNCTION, pods.slice(1)))[0]?.replica).not.toBe(endpoint?.replica);
    expect(await routing.choose(FUNCTION, [])).toEqual([]);
  });

  it('tells through a Service what the pods’ token is made of, which all pods of a function share', async () => {
    const routing = waysWith({ reach: 'service' }, '10.96.0.7');
    const [former, present] = pods as [Endpoint, Endpoint];
    expect(await routing.choose(FUNCTION, [former, { ...present, credential: FUNCTION }])).toMatchObject([
      { credential: FUNCTION },
    ]);
    expect((await routing.choose(FUNCTION, pods))[0]).not.toHaveProperty('credential');
  });

  it.each([undefined, '', 'None'])('goes to the pods where the Service has the address %j', async (clusterIP) => {
    expect(await waysWith({ reach: 'service' }, clusterIP).choose(FUNCTION, pods)).toBe(pods);
  });

  it('finds out once, with the first pod that is ready', async () => {
    const address = await listening();
    const routing = waysWith({ reach: 'auto', insideCluster: true }, '10.96.0.7');
    expect(await routing.choose(FUNCTION, [])).toEqual([]);
    const first = [{ replica: 'a/1', address }];
    expect(await routing.choose(FUNCTION, first)).toBe(first);
    servers.pop()!.close();
    expect(await routing.choose(FUNCTION, pods)).toBe(pods);
  });

  it('goes through a gate of its own for each pod from outside, which ends with it', async () => {
    const routing = waysWith({ reach: 'auto', insideCluster: false }, '10.96.0.7');
    expect(await routing.choose(FUNCTION, pods)).toBe(pods);
    const gates = pods.map((pod) => routing.to(pod));
    expect(gates.map(({ kind }) => kind)).toEqual(['unix', 'unix']);
    expect(gates[0]).not.toEqual(gates[1]);
    routing.close();
  });
});
