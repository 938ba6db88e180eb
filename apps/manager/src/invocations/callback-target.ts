import type { EgressRange } from '#libs/config/egress-range.js';
import { lookup as systemLookup, type LookupAddress, type LookupOptions } from 'node:dns';
import { BlockList, isIP, isIPv4 } from 'node:net';

/** https://www.iana.org/assignments/iana-ipv4-special-registry: none of the public internet. */
const PRIVATE = rangesOf(
  'ipv4',
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4',
);
/** Of IPv6 only global unicast is public, and not all of that: documentation, and what leads to an IPv4 address. */
const GLOBAL = rangesOf('ipv6', '2000::/3');
const NOT_GLOBAL = rangesOf('ipv6', '2001::/23 2001:db8::/32 2002::/16 3fff::/20');

function rangesOf(family: 'ipv4' | 'ipv6', ranges: string): BlockList {
  const list = new BlockList();
  for (const range of ranges.split(' ')) {
    const [address = '', prefix] = range.split('/');
    list.addSubnet(address, Number(prefix), family);
  }
  return list;
}

/** Whether a connection to this address may be opened. IPv4 in IPv6 is what it is in IPv4. */
export function isAllowed(address: string, port: number, allow: readonly EgressRange[]): boolean {
  const family = isIPv4(address) ? 'ipv4' : 'ipv6';
  const isNamed = allow.some((range) => {
    if (range.port !== undefined && range.port !== port) return false;
    return rangesOf(range.family === 4 ? 'ipv4' : 'ipv6', range.cidr).check(address, family);
  });
  if (isNamed) return true;
  if (family === 'ipv4') return !PRIVATE.check(address, family);
  return GLOBAL.check(address, family) && !NOT_GLOBAL.check(address, family);
}

export class TargetRefused extends Error {
  readonly code = 'TARGET_REFUSED';
}

function refusal(host: string): TargetRefused {
  return new TargetRefused(`${host} is no public address`);
}

/** What is wrong with a callback's URL, as far as can be told without asking for its name's address. */
export function targetFault(url: string, allow: readonly EgressRange[]): string | undefined {
  if (!URL.canParse(url)) return 'is no URL';
  const { protocol, username, password, hostname } = new URL(url);
  if (protocol !== 'https:' && protocol !== 'http:') return 'must begin with https:// or http://';
  if (username !== '' || password !== '') return 'must hold no user and password';
  try {
    checkLiteral(new URL(url), allow);
    return undefined;
  } catch {
    return `leads to ${hostname}, which is no public address (CALLBACKS_ALLOW allows others)`;
  }
}

/** Throws {@link TargetRefused} for an address that isn't allowed. Names are looked at when they are resolved. */
export function checkLiteral(url: URL, allow: readonly EgressRange[]): void {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (isIP(host) !== 0 && !isAllowed(host, portOf(url), allow)) throw refusal(host);
}

export function portOf({ port, protocol }: Pick<URL, 'port' | 'protocol'>): number {
  if (port !== '') return Number(port);
  return protocol === 'https:' ? 443 : 80;
}

type Found = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void;

/** Resolves a name to all its addresses. */
type Resolve = (
  host: string,
  options: LookupOptions & { readonly all: true },
  found: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

const LOOKUPS_AT_ONCE = 2;

/**
 * Each takes one of the few threads that files need as well
 * (https://nodejs.org/api/dns.html#implementation-considerations), for as long as a name server doesn't answer. The
 * others wait for `waitMs` at most.
 */
export class Lookups {
  private underWay = 0;
  private readonly waiting = new Set<() => void>();

  constructor(
    private readonly waitMs: number,
    private readonly resolve: Resolve = systemLookup,
  ) {}

  readonly lookup: Resolve = (host, options, found) => {
    const begin = () => {
      this.underWay += 1;
      this.resolve(host, options, (error, addresses) => {
        this.underWay -= 1;
        const [next] = this.waiting;
        next?.();
        found(error, addresses);
      });
    };
    if (this.underWay < LOOKUPS_AT_ONCE) {
      begin();
      return;
    }
    const late = setTimeout(() => {
      this.waiting.delete(next);
      found(new Error(`the address of ${host} could not be asked for in time`), []);
    }, this.waitMs);
    const next = () => {
      clearTimeout(late);
      this.waiting.delete(next);
      begin();
    };
    this.waiting.add(next);
  };
}

/**
 * Resolves names for a socket, which connects to nothing but what this answers: a name that leads elsewhere a moment
 * later changes nothing.
 */
export function allowedLookup(port: number, allow: readonly EgressRange[], resolve: Resolve) {
  return (host: string, options: LookupOptions, found: Found): void => {
    resolve(host, { ...options, all: true }, (error, addresses) => {
      if (error !== null) {
        found(error, []);
        return;
      }
      const allowed = addresses.filter(({ address }) => isAllowed(address, port, allow));
      const [first] = allowed;
      if (first === undefined) found(refusal(host), []);
      else if (options.all === true) found(null, allowed);
      else found(null, first.address, first.family);
    });
  };
}
