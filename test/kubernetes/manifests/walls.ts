import type {
  KubernetesObject,
  V1NetworkPolicy,
  V1NetworkPolicyPeer,
  V1NetworkPolicyPort,
} from '@kubernetes/client-node';
import { BlockList, isIPv6 } from 'node:net';
import { ofKind, selects } from './objects.js';

/** An end of a connection: a pod of the cluster, or an address that is none. */
export type Party =
  { readonly namespace: string; readonly labels: Readonly<Record<string, string>> } | { readonly address: string };

interface Port {
  readonly protocol: 'TCP' | 'UDP';
  readonly port: number;
}

/** As the file has it; the generated client's models call it `_from`. */
interface IngressRule {
  readonly from?: readonly V1NetworkPolicyPeer[];
  readonly ports?: readonly V1NetworkPolicyPort[];
}

/** Whether the NetworkPolicies among these objects let `from` connect to `to`, by the rules of the published API. */
export function letsThrough(objects: readonly KubernetesObject[], from: Party, to: Party, port: Port): boolean {
  const policies = ofKind(objects, 'NetworkPolicy');
  const goesOut = isOpen(policies, 'Egress', from, ({ metadata, spec }) =>
    (spec?.egress ?? []).some((rule) => ruleFits(rule.to, rule.ports, metadata?.namespace, to, port)),
  );
  const comesIn = isOpen(policies, 'Ingress', to, ({ metadata, spec }) =>
    ((spec?.ingress ?? []) as IngressRule[]).some((rule) =>
      ruleFits(rule.from, rule.ports, metadata?.namespace, from, port),
    ),
  );
  return goesOut && comesIn;
}

/** A pod that no policy of this direction selects is open; otherwise one of them must allow it. */
function isOpen(
  policies: readonly V1NetworkPolicy[],
  direction: 'Ingress' | 'Egress',
  party: Party,
  allows: (policy: V1NetworkPolicy) => boolean,
): boolean {
  if ('address' in party) return true;
  const about = policies.filter(
    ({ metadata, spec }) =>
      metadata?.namespace === party.namespace &&
      (spec?.policyTypes ?? []).includes(direction) &&
      selects(spec?.podSelector, party.labels),
  );
  return about.length === 0 || about.some(allows);
}

function ruleFits(
  peers: readonly V1NetworkPolicyPeer[] | undefined,
  ports: readonly V1NetworkPolicyPort[] | undefined,
  home: string | undefined,
  other: Party,
  { protocol, port }: Port,
): boolean {
  const peerFits = peers === undefined || peers.some((peer) => isPeer(peer, home, other));
  const portFits =
    ports === undefined || ports.some((one) => (one.protocol ?? 'TCP') === protocol && Number(one.port) === port);
  return peerFits && portFits;
}

function isPeer(peer: V1NetworkPolicyPeer, home: string | undefined, other: Party): boolean {
  const { ipBlock, namespaceSelector, podSelector } = peer;
  if ('address' in other) {
    if (ipBlock === undefined) return false;
    return contains(ipBlock.cidr, other.address) && !ipBlock.except?.some((range) => contains(range, other.address));
  }
  if (ipBlock !== undefined) return false;
  // Every cluster puts a namespace's name on it as a label; a peer without a selector of namespaces is of its own.
  const near =
    namespaceSelector === undefined
      ? other.namespace === home
      : selects(namespaceSelector, { 'kubernetes.io/metadata.name': other.namespace });
  return near && selects(podSelector, other.labels);
}

function contains(cidr: string, address: string): boolean {
  const [network = '', prefix] = cidr.split('/');
  if (isIPv6(network) !== isIPv6(address)) return false;
  const family = isIPv6(address) ? 'ipv6' : 'ipv4';
  const block = new BlockList();
  block.addSubnet(network, Number(prefix), family);
  return block.check(address, family);
}
