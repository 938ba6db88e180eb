import { type Bridge, type Chain, chainsFor, type Family, type FirewallPolicy } from './firewall-rules.js';

const CHAIN = /^FAAS-([0-9a-f]{12})-[A-Z]+$/;

/** What `iptables-save -t filter` shows: the rules of each chain, in their order. */
type Saved = ReadonlyMap<string, readonly string[]>;

function read(saved: string): Saved {
  const chains = new Map<string, string[]>();
  for (const line of saved.split('\n')) {
    const [, chain] = /^:(\S+) /.exec(line) ?? [];
    if (chain !== undefined) chains.set(chain, []);
    const [, to, rule] = /^-A (\S+) ?(.*)$/.exec(line) ?? [];
    if (to !== undefined) chains.get(to)?.push(rule ?? '');
  }
  return chains;
}

/** What iptables-restore must be given, at once, to have these chains; undefined when all is as it should be. */
export function repairs(saved: string, wanted: readonly Chain[]): string | undefined {
  const there = read(saved);
  return scriptOf([...(isIntact(there, wanted) ? [] : definitions(wanted)), ...jumps(there, wanted)]);
}

/**
 * What iptables-restore must be given to have no chains of bridges that are gone; undefined when there are none. Apart
 * from {@link repairs}: it fails as a whole where somebody else was faster with one of them.
 */
export function removals(
  saved: string,
  wanted: readonly Chain[],
  hasBridge: (name: string) => boolean,
): string | undefined {
  const there = read(saved);
  const kept = new Set(wanted.map(({ name }) => name));
  const gone = [...there.keys()].filter((name) => !kept.has(name) && isOfGoneBridge(name, there, hasBridge));
  return scriptOf(removal(there, gone));
}

function scriptOf(lines: readonly string[]): string | undefined {
  return lines.length === 0 ? undefined : restorable(lines);
}

function restorable(lines: readonly string[]): string {
  return ['*filter', ...lines, 'COMMIT', ''].join('\n');
}

function definitions(chains: readonly Chain[]): string[] {
  return [
    ...chains.map(({ name }) => `:${name} - [0:0]`),
    ...chains.flatMap(({ name, rules }) => rules.map((rule) => `-A ${name} ${rule}`)),
  ];
}

function isIntact(there: Saved, wanted: readonly Chain[]): boolean {
  return wanted.every(({ name, rules }) => {
    const [, digest = ''] = /--comment (\S+)/.exec(rules[0] ?? '') ?? [];
    const found = there.get(name);
    return found?.length === rules.length && found[0]?.includes(digest) === true;
  });
}

/** Ours come before all others, such as those the engine puts there when it is started again. */
function jumps(there: Saved, wanted: readonly Chain[]): string[] {
  return wanted.flatMap(({ name, jump }) => {
    if (jump === undefined) return [];
    const from = jump.from === 'FORWARD' && there.has('DOCKER-USER') ? 'DOCKER-USER' : jump.from;
    const rule = `${jump.match} -j ${name}`;
    const found = there.get(from) ?? [];
    const first = found.findIndex((one) => !/ -j FAAS-\S+$/.test(one));
    const ahead = first === -1 ? found : found.slice(0, first);
    const times = found.filter((one) => one === rule).length;
    if (times === 1 && ahead.includes(rule)) return [];
    return [...Array.from({ length: times }, () => `-D ${from} ${rule}`), `-I ${from} 1 ${rule}`];
  });
}

/** Of a bridge that no interface has the name of: the engine takes it away with its network. */
function isOfGoneBridge(name: string, there: Saved, hasBridge: (name: string) => boolean): boolean {
  const [, network] = CHAIN.exec(name) ?? [];
  if (network === undefined) return false;
  const ofNetwork = new RegExp(` -j FAAS-${network}-[A-Z]+$`);
  const bridges = [...there.values()].flat().flatMap((rule) => {
    const [, bridge] = ofNetwork.test(rule) ? (/^-[io] (\S+) /.exec(rule) ?? []) : [];
    return bridge ?? [];
  });
  return !(bridges.length === 0 ? [`br-${network}`] : bridges).some(hasBridge);
}

function removal(there: Saved, names: readonly string[]): string[] {
  const isTo = new RegExp(` -j (${names.join('|')})$`);
  const toThem = [...there].flatMap(([from, rules]) =>
    names.length === 0 || names.includes(from)
      ? []
      : rules.filter((rule) => isTo.test(rule)).map((rule) => `-D ${from} ${rule}`),
  );
  return [...toThem, ...names.map((name) => `-F ${name}`), ...names.map((name) => `-X ${name}`)];
}

/** The same for a person to run as root where the manager may not. Safe to repeat. */
export function shellScript(
  networks: readonly { readonly bridge: Bridge; readonly policy: FirewallPolicy }[],
  families: readonly Family[],
): string {
  const bridges = networks.map(({ bridge }) => bridge.name).join(' and ');
  return [
    '#!/bin/sh',
    `# Keeps the containers on ${bridges} from this machine and from private addresses. Run as root, after each start of`,
    '# the machine; safe to repeat.',
    'set -eu',
    'PATH=$PATH:/usr/sbin:/sbin',
    ...networks.flatMap(({ bridge, policy }) =>
      families.flatMap((family) =>
        commands(chainsFor(bridge, policy, family), family === 4 ? 'iptables' : 'ip6tables'),
      ),
    ),
    '',
  ].join('\n');
}

function commands(chains: readonly Chain[], program: string): string[] {
  const jump = ({ name, jump: to }: Chain) => {
    if (to === undefined) return [];
    const rule = `${to.from === 'FORWARD' ? '"$forward"' : to.from} ${to.match} -j ${name}`;
    return [`${program} -w 5 -C ${rule} 2>/dev/null || ${program} -w 5 -I ${rule}`];
  };
  return [
    `${program}-restore -w 5 --noflush <<'RULES'`,
    restorable(definitions(chains)).trimEnd(),
    'RULES',
    'forward=FORWARD',
    `! ${program} -w 5 -n -L DOCKER-USER >/dev/null 2>&1 || forward=DOCKER-USER`,
    ...chains.flatMap(jump),
  ];
}
