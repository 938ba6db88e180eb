import { isIPv4, isIPv6 } from 'node:net';

/** Addresses, and where one is named a port, that workers may open connections to although they are private. */
export interface EgressRange {
  readonly family: 4 | 6;
  /** Such as `10.1.0.0/16`. */
  readonly cidr: string;
  /** For TCP and UDP; undefined: every port and protocol. */
  readonly port: number | undefined;
}

const MOST_PREFIX = { 4: 32, 6: 128 };

/**
 * Reads `address`, `address/prefix`, either with `:port`; an IPv6 address with a port stands in brackets. Answers what
 * is wrong in place of a range.
 */
export function parseEgressRange(entry: string): EgressRange | string {
  const { where, port } = split(entry);
  const [, address = '', prefix] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(where) ?? [];
  const family = isIPv4(address) ? 4 : isIPv6(address) && !address.includes('%') ? 6 : undefined;
  if (family === undefined) return 'must be an address or a range such as 10.1.0.0/16, 10.1.2.3:5432 or [fd00::1]:443';
  const bits = prefix === undefined ? MOST_PREFIX[family] : Number(prefix);
  if (bits > MOST_PREFIX[family]) return `has a prefix beyond /${MOST_PREFIX[family]}`;
  if (port !== undefined && !(port >= 1 && port <= 65_535)) return 'has a port that is not between 1 and 65535';
  return { family, cidr: `${address}/${bits}`, port };
}

function split(entry: string): { where: string; port: number | undefined } {
  const [, bracketed, inBrackets] = /^\[(.*)\](?::(\d+))?$/.exec(entry) ?? [];
  if (bracketed !== undefined) return { where: bracketed, port: inBrackets === undefined ? undefined : +inBrackets };
  const [, plain, port] = /^([^:]*):(\d+)$/.exec(entry) ?? [];
  return plain === undefined ? { where: entry, port: undefined } : { where: plain, port: Number(port) };
}
