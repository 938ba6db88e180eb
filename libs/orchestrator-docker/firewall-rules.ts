import { createHash } from 'node:crypto';
import type { EgressRange } from '#libs/config/egress-range.js';

export type Family = EgressRange['family'];

/** The workers' bridge on the engine's machine. */
export interface Bridge {
  /** The id of its network. */
  readonly network: string;
  readonly name: string;
  /** Nothing leads out of it. */
  readonly internal: boolean;
}

export interface FirewallPolicy {
  readonly allow: readonly EgressRange[];
  /** Addresses that engines ask for names from inside a worker's network namespace. */
  readonly resolvers: readonly string[];
  /** How many connections the machine can track; undefined where the kernel can't count a worker's. */
  readonly tracked: number | undefined;
}

/** Rules of one chain, as iptables-restore reads them behind `-A <chain>`. */
export interface Chain {
  readonly name: string;
  readonly rules: readonly string[];
  /** From where packets are sent through it. */
  readonly jump?: { readonly from: 'INPUT' | 'FORWARD'; readonly match: string };
}

/** Connections one worker may have at once, and open in a second for longer than a burst. */
export const WORKER_CONNECTIONS = 512;
const WORKER_RATE = 64;
/** For as long the kernel remembers a connection that was closed, in seconds. */
const TIME_WAIT_S = 120;

const PRIVATE_4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  // Metadata of most clouds.
  '169.254.0.0/16',
  '172.16.0.0/12',
  // Oracle's metadata among them.
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
  // Azure's metadata, an address of no private range.
  '168.63.129.16/32',
];

/** NAT64 gateways reach every IPv4 address under this prefix. */
const NAT64 = '64:ff9b::';

const PRIVATE_6 = [
  '::/127',
  '::ffff:0:0/96',
  ...PRIVATE_4.map(throughNat64),
  '64:ff9b:1::/48',
  // Teredo and 6to4 carry IPv4 addresses.
  '2001::/32',
  '2001:db8::/32',
  '2002::/16',
  // Metadata at fd00:ec2::254 among them.
  'fc00::/7',
  'fe80::/10',
  'fec0::/10',
  'ff00::/8',
];

function throughNat64(range: string): string {
  const [address = '', prefix] = range.split('/');
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number);
  return `${NAT64}${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}/${96 + Number(prefix)}`;
}

/**
 * What packets from and to workers go through. Everything that is let through returns to the machine's own rules, so
 * nothing is opened that they close.
 */
export function chainsFor(bridge: Bridge, policy: FirewallPolicy, family: Family): readonly Chain[] {
  const name = (part: string) => `FAAS-${bridge.network.slice(0, 12)}-${part}`;
  const deny = `-j ${name('DENY')}`;
  const ranges = [...policy.allow, ...policy.resolvers.map(nameserver)].filter((range) => range.family === family);
  const limits = limitsOf(policy.tracked, bridge.network, family, deny);
  // A whole range must not open this machine, which often has an address in it: that takes a port.
  const ports = ranges.filter(({ port }) => port !== undefined).flatMap(allowed);
  const out = bridge.internal
    ? [deny]
    : [
        ...limits,
        ...ranges.flatMap(allowed),
        ...(family === 4 ? PRIVATE_4 : PRIVATE_6).map((to) => `-d ${to} ${deny}`),
      ];
  return signed([
    { name: name('DENY'), rules: refusals(family) },
    {
      name: name('HOST'),
      rules: [KNOWN, ...(family === 6 ? NEIGHBOURS : []), ...limits, ...ports, deny],
      jump: { from: 'INPUT', match: `-i ${bridge.name}` },
    },
    { name: name('OUT'), rules: [KNOWN, ...out], jump: { from: 'FORWARD', match: `-i ${bridge.name}` } },
    // Publishing a port has the engine accept it from every interface: only this machine itself may call workers.
    { name: name('IN'), rules: [KNOWN, '-j DROP'], jump: { from: 'FORWARD', match: `-o ${bridge.name}` } },
  ]);
}

/**
 * Packets of a connection that was let through once: the kernel notes one only then. Unlike ESTABLISHED it holds for
 * datagrams that nobody answers too, which would count as new ones each.
 */
const KNOWN = '-m conntrack --ctstatus CONFIRMED -j RETURN';

/** Without them IPv6 finds nobody on the bridge. */
const NEIGHBOURS = [133, 134, 135, 136].map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j RETURN`);

/** Refused at once, so that a handler gets an error in place of a timeout. */
function refusals(family: Family): string[] {
  const prohibited = family === 4 ? 'icmp-admin-prohibited' : 'icmp6-adm-prohibited';
  return ['-p tcp -j REJECT --reject-with tcp-reset', `-j REJECT --reject-with ${prohibited}`];
}

function nameserver(address: string): EgressRange {
  return address.includes(':')
    ? { family: 6, cidr: `${address}/128`, port: 53 }
    : { family: 4, cidr: `${address}/32`, port: 53 };
}

function allowed({ cidr, port }: EgressRange): string[] {
  if (port === undefined) return [`-d ${cidr} -j RETURN`];
  return ['tcp', 'udp'].map((protocol) => `-d ${cidr} -p ${protocol} -m ${protocol} --dport ${port} -j RETURN`);
}

/**
 * What is dropped or refused leaves no entry in the kernel's table of connections. One worker's share is bounded, and
 * so is that of all workers: a quarter of the table while connections are open, half of it after their end.
 */
function limitsOf(tracked: number | undefined, network: string, family: Family, deny: string): string[] {
  if (tracked === undefined) return [];
  const mask = family === 4 ? 32 : 128;
  const allRate = Math.max(WORKER_RATE, Math.floor(tracked / 2 / TIME_WAIT_S));
  const allConnections = Math.max(WORKER_CONNECTIONS, Math.floor(tracked / 4));
  // The kernel keeps a rate with the name under which it was first asked for.
  const own = `f${network.slice(0, 12)}`;
  const all = `g${network.slice(0, 8)}${allRate.toString(36)}`;
  return [
    `-m hashlimit --hashlimit-above ${WORKER_RATE}/sec --hashlimit-burst ${WORKER_CONNECTIONS} --hashlimit-mode srcip --hashlimit-name ${own} -j DROP`,
    `-m connlimit --connlimit-above ${WORKER_CONNECTIONS} --connlimit-mask ${mask} --connlimit-saddr ${deny}`,
    `-m hashlimit --hashlimit-above ${allRate}/sec --hashlimit-burst ${4 * WORKER_CONNECTIONS} --hashlimit-name ${all} -j DROP`,
    `-m connlimit --connlimit-above ${allConnections} --connlimit-mask 0 --connlimit-saddr ${deny}`,
  ];
}

/**
 * Kernels and versions of iptables show rules in words of their own, so what is there is recognised by a digest of
 * what was asked for, on the first rule of each chain.
 */
function signed(chains: readonly Chain[]): readonly Chain[] {
  const digest = createHash('sha256').update(JSON.stringify(chains)).digest('hex').slice(0, 16);
  return chains.map((chain) => ({
    ...chain,
    rules: chain.rules.map((rule, index) => (index === 0 ? `-m comment --comment faas:${digest} ${rule}` : rule)),
  }));
}
