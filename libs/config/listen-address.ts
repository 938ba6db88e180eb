import { isIPv6 } from 'node:net';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Reads `:8080`, `8080`, `127.0.0.1:8080`, `localhost:0` or `[::1]:8080`; undefined when it is none of these. */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<name>[^:[\]\s]*))(?::(?<port>\d{1,5}))$/.exec(
    /^\d+$/.test(text) ? `:${text}` : text,
  );
  const port = Number(match?.groups?.['port']);
  if (!match || port > 65_535) return undefined;
  const v6 = match.groups?.['v6'];
  if (v6 !== undefined && !isIPv6(v6)) return undefined;
  const host = v6 ?? match.groups?.['name'] ?? '';
  return { host: host === '' ? '::' : host, port };
}

export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
