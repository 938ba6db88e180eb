import type { KubernetesObject } from '@kubernetes/client-node';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildLabels, poolSelector } from '#libs/orchestrator-kubernetes/labels.js';
import { ofKind } from './objects.js';
import { letsThrough, type Party } from './walls.js';
import { renderOverlay, whyNoKustomize } from './rendering.js';

const MANAGER: Party = { namespace: 'faas-system', labels: { 'app.kubernetes.io/name': 'faas-manager' } };
const POSTGRES: Party = { namespace: 'faas-system', labels: { 'app.kubernetes.io/name': 'faas-postgres' } };
const WORKER: Party = { namespace: 'scadable-faas', labels: { app: 'faas-worker', func: 'mfrggzdfmztwq2lk' } };
const OTHER_WORKER: Party = { namespace: 'scadable-faas', labels: { app: 'faas-worker', func: 'mfrggzdfmztwq2lm' } };
const BUILD: Party = { namespace: 'scadable-faas', labels: buildLabels('owner') };
const POOL_POD: Party = { namespace: 'scadable-faas', labels: poolSelector() };
const NEIGHBOUR: Party = { namespace: 'faas-system', labels: { app: 'neighbour' } };
const IMPOSTOR: Party = { namespace: 'elsewhere', labels: { 'app.kubernetes.io/name': 'faas-manager' } };
const DNS: Party = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };
const STRANGER: Party = { namespace: 'kube-system', labels: { app: 'dashboard' } };
const SITE: Party = { address: '93.184.216.34' };
const SITE6: Party = { address: '2606:2800:220:1::1' };
const API_SERVER: Party = { address: '172.18.0.2' };
const METADATA: Party = { address: '169.254.169.254' };

const tcp = (port: number) => ({ protocol: 'TCP', port }) as const;
const udp = (port: number) => ({ protocol: 'UDP', port }) as const;

type Row = readonly [what: string, from: Party, to: Party, port: ReturnType<typeof tcp> | ReturnType<typeof udp>];

/** All of it, and the same of pods of the pool in workers' places, with a function or without. */
function alsoOfThePool(rows: readonly Row[]): Row[] {
  const inPool = (party: Party) => (party === WORKER ? POOL_POD : party);
  const theirs = rows.filter((row) => row.includes(WORKER));
  return [
    ...rows,
    ...theirs.map(([what, from, to, port]): Row => [`${what} (of the pool)`, inPool(from), inPool(to), port]),
  ];
}

/** Addresses that answer a cloud's machines with credentials, and addresses inside the cluster or beside it. */
const INNER = [
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '168.63.129.16',
  '100.100.100.200',
  '192.0.0.192',
  'fd00:ec2::254',
  'fd20:ce::254',
  '64:ff9b::a9fe:a9fe',
  '127.0.0.1',
  '10.96.0.1',
  '10.42.0.7',
  '172.18.0.2',
  '192.168.1.1',
  'fe80::1',
  'fc00::1',
];

describe.skipIf(whyNoKustomize() !== undefined)('The network policies', () => {
  let without: KubernetesObject[];
  let withInternet: KubernetesObject[];

  beforeAll(async () => {
    const resources = ['overlays/dev'];
    without = await renderOverlay({ resources });
    withInternet = await renderOverlay({ resources, components: ['components/workers-internet'] });
  });

  it.each(
    alsoOfThePool([
      ['the manager calls a worker', MANAGER, WORKER, tcp(8000)],
      ['a worker resolves names', WORKER, DNS, udp(53)],
      ['a worker resolves long names', WORKER, DNS, tcp(53)],
      ['the manager resolves names', MANAGER, DNS, udp(53)],
      ['a worker fetches packages', WORKER, MANAGER, tcp(8081)],
      ['the manager has packages built', MANAGER, BUILD, tcp(8000)],
      ['a build resolves names', BUILD, DNS, udp(53)],
      ['a build asks an index', BUILD, SITE, tcp(443)],
      ['a build asks an index by IPv6', BUILD, SITE6, tcp(443)],
      ['the manager stores functions', MANAGER, POSTGRES, tcp(5432)],
      ['the manager asks the API server', MANAGER, API_SERVER, tcp(6443)],
      ['a client calls the manager', SITE, MANAGER, tcp(8080)],
      ['an Ingress controller calls the manager', STRANGER, MANAGER, tcp(8080)],
    ]),
  )('let through: %s', (_what, from, to, port) => {
    expect(letsThrough(without, from, to, port)).toBe(true);
    expect(letsThrough(withInternet, from, to, port)).toBe(true);
  });

  it.each(
    alsoOfThePool([
      ['a worker calls another', WORKER, OTHER_WORKER, tcp(8000)],
      ['a neighbour of the manager calls a worker', NEIGHBOUR, WORKER, tcp(8000)],
      ['a pod elsewhere that calls itself the manager calls a worker', IMPOSTOR, WORKER, tcp(8000)],
      ['somebody outside calls a worker', SITE, WORKER, tcp(8000)],
      ['the manager calls another port of a worker', MANAGER, WORKER, tcp(22)],
      ['a worker calls the manager', WORKER, MANAGER, tcp(8080)],
      ['a worker calls the database', WORKER, POSTGRES, tcp(5432)],
      ['a worker calls another pod of the cluster', WORKER, STRANGER, tcp(443)],
      ['a worker calls the cluster’s DNS on another port', WORKER, DNS, tcp(9153)],
      ['a worker asks the API server', WORKER, API_SERVER, tcp(6443)],
      ['a worker calls a build', WORKER, BUILD, tcp(8000)],
      ['somebody elsewhere fetches packages', STRANGER, MANAGER, tcp(8081)],
      ['somebody outside fetches packages', SITE, MANAGER, tcp(8081)],
      ['a build calls a worker', BUILD, WORKER, tcp(8000)],
      ['a build calls another', BUILD, { ...BUILD, labels: buildLabels('other') }, tcp(8000)],
      ['a build calls the manager', BUILD, MANAGER, tcp(8080)],
      ['a build fetches packages', BUILD, MANAGER, tcp(8081)],
      ['a build calls the database', BUILD, POSTGRES, tcp(5432)],
      ['a build asks the API server', BUILD, API_SERVER, tcp(6443)],
      ['a build calls out on another port', BUILD, SITE, tcp(22)],
      ['a neighbour of the manager calls a build', NEIGHBOUR, BUILD, tcp(8000)],
      ['somebody else calls the database', NEIGHBOUR, POSTGRES, tcp(5432)],
      ['the database calls out', POSTGRES, SITE, tcp(443)],
      ['the manager calls out', MANAGER, SITE, tcp(443)],
      ['the manager calls out on the API server’s port', MANAGER, SITE, tcp(6443)],
      ['the manager calls out on the database’s port', MANAGER, SITE, tcp(5432)],
      ['the manager calls out by IPv6', MANAGER, SITE6, tcp(443)],
      ['the manager calls another port of the API server’s machine', MANAGER, API_SERVER, tcp(10250)],
      ['the manager calls a pod that is no worker', MANAGER, STRANGER, tcp(8443)],
      ['the manager asks for a node’s credentials', MANAGER, METADATA, tcp(80)],
    ]),
  )('stop: %s', (_what, from, to, port) => {
    expect(letsThrough(without, from, to, port)).toBe(false);
    expect(letsThrough(withInternet, from, to, port)).toBe(false);
  });

  it.each([
    ['IPv4', SITE],
    ['IPv6', SITE6],
  ])('let workers reach the internet by %s only with the component that allows it', (_family, site) => {
    for (const worker of [WORKER, POOL_POD]) {
      expect(letsThrough(without, worker, site, tcp(443))).toBe(false);
      expect(letsThrough(withInternet, worker, site, tcp(443))).toBe(true);
    }
  });

  it('name no address block that an API server refuses', () => {
    const blocks = ofKind(withInternet, 'NetworkPolicy')
      .flatMap(({ spec }) => (spec?.egress ?? []).flatMap(({ to = [] }) => to))
      .flatMap(({ ipBlock }) => (ipBlock === undefined ? [] : [ipBlock]));
    expect(blocks.filter(({ except }) => except !== undefined)).toHaveLength(4);
    for (const { cidr, except = [] } of blocks) {
      expect(new Set(except).size).toBe(except.length);
      for (const range of except) {
        expect(range.includes(':'), range).toBe(cidr.includes(':'));
        expect(range, 'IPv4 written as IPv6').not.toMatch(/^::ffff:/);
        expect(Number(range.split('/')[1]), range).toBeGreaterThan(Number(cidr.split('/')[1]));
      }
    }
  });

  it.each(INNER)('never let workers and builds reach %s', (address) => {
    for (const port of [tcp(80), tcp(443), tcp(6443), udp(53)]) {
      for (const worker of [WORKER, POOL_POD, BUILD]) {
        expect(letsThrough(without, worker, { address }, port)).toBe(false);
        expect(letsThrough(withInternet, worker, { address }, port)).toBe(false);
      }
    }
  });
});

describe.skipIf(whyNoKustomize() !== undefined)('The network policies of overlays/prod', () => {
  it('let the manager call its database, its API server, workers, builds and DNS, and nothing else', async () => {
    const objects = await renderOverlay({ resources: ['overlays/prod'] });
    const rules = ofKind(objects, 'NetworkPolicy')
      .filter(({ spec }) => spec?.policyTypes?.includes('Egress') && spec.podSelector?.matchLabels !== undefined)
      .filter(({ metadata }) => metadata?.namespace === 'faas-system')
      .flatMap(({ spec }) => spec?.egress ?? []);
    expect(rules).toHaveLength(5);
    for (const { to = [], ports = [] } of rules) {
      expect(to).toHaveLength(1);
      expect(ports.length).toBeGreaterThan(0);
    }
    // The addresses of the examples, which an installation replaces.
    const [database, apiServer] = [{ address: '192.0.2.10' }, { address: '192.0.2.20' }];
    expect(letsThrough(objects, MANAGER, database, tcp(5432))).toBe(true);
    expect(letsThrough(objects, MANAGER, apiServer, tcp(6443))).toBe(true);
    for (const party of [SITE, METADATA, API_SERVER]) {
      for (const port of [80, 443, 5432, 6443, 8443])
        expect(letsThrough(objects, MANAGER, party, tcp(port))).toBe(false);
    }
  });
});
