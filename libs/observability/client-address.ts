import type { IncomingMessage } from 'node:http';

const MAPPED = /^::ffff:(?=\d)/i;

/** The address that the request's connection comes from; IPv4 as it is usually written, however it was accepted. */
export function addressOf(request: Pick<IncomingMessage, 'socket'>): string {
  return request.socket.remoteAddress?.replace(MAPPED, '') ?? 'unknown';
}

/** Whom attempts are counted for: an address, or the network of 64 bits that an owner of an IPv6 address has. */
export function clientOf(address: string): string {
  if (!address.includes(':')) return address;
  const [head, tail] = (address.split('%')[0] as string).split('::') as [string, string?];
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const gap = Math.max(0, 8 - before.length - after.length);
  const groups = [...before, ...Array<string>(tail === undefined ? 0 : gap).fill('0'), ...after];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
