import { readFileSync } from 'node:fs';
import type Docker from 'dockerode';
import { parse } from 'yaml';

export interface ComposeService {
  readonly image: string;
  readonly profiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string | number>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly network_mode?: string;
  readonly group_add?: readonly (string | number)[];
  readonly read_only?: boolean;
  readonly tmpfs?: readonly string[];
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly healthcheck?: { readonly test?: string[]; readonly [timing: string]: unknown };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

type Variables = Readonly<Record<string, string>>;

/** docker-compose.yml with its variables filled in, as the compose command reads it. */
export function readCompose(variables: Variables, path = 'docker-compose.yml'): ComposeFile {
  return fill(parse(readFileSync(path, 'utf8')), variables) as ComposeFile;
}

function fill(value: unknown, variables: Variables): unknown {
  if (typeof value === 'string') return interpolate(value, variables);
  if (Array.isArray(value)) return value.map((item) => fill(item, variables));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, variables)]));
}

/** `${NAME}`, `${NAME:-default}`, `${NAME:?what to do}` and `$$`. */
export function interpolate(text: string, variables: Variables): string {
  return text.replace(/\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}/g, (match, name?: string, kind?: string, rest = '') => {
    if (match === '$$' || name === undefined) return '$';
    const value = variables[name] ?? '';
    if (value !== '') return value;
    if (kind === '?') throw new Error(`required variable ${name} is missing a value: ${rest}`);
    return kind === '-' ? String(rest) : '';
  });
}

export interface Project {
  readonly name: string;
  readonly network: string;
}

/** What the compose command asks the engine to create for a service, as far as our file goes. */
export function containerOf(service: ComposeService, { name, network }: Project): Docker.ContainerCreateOptions {
  const ports = (service.ports ?? []).map((port) => /^([\d.]+):(\d+):(\d+)$/.exec(port) ?? unsupported(port));
  const { healthcheck } = service;
  return {
    Image: service.image,
    Labels: { 'faas.compose-test': name },
    Env: Object.entries(service.environment ?? {}).map(([key, value]) => `${key}=${value}`),
    ExposedPorts: Object.fromEntries(ports.map(([, , , inner]) => [`${inner}/tcp`, {}])),
    ...(healthcheck && {
      Healthcheck: {
        ...(healthcheck.test && { Test: healthcheck.test }),
        Interval: nanoseconds(healthcheck['interval']),
        Timeout: nanoseconds(healthcheck['timeout']),
        StartPeriod: nanoseconds(healthcheck['start_period']),
        Retries: Number(healthcheck['retries'] ?? 0),
      },
    }),
    HostConfig: {
      NetworkMode: service.network_mode ?? network,
      PortBindings: Object.fromEntries(
        ports.map(([, HostIp, HostPort, inner]) => [`${inner}/tcp`, [{ HostIp, HostPort }]]),
      ),
      Binds: (service.volumes ?? []).map((volume) => (volume.startsWith('/') ? volume : `${name}_${volume}`)),
      GroupAdd: (service.group_add ?? []).map(String),
      ReadonlyRootfs: service.read_only ?? false,
      Tmpfs: Object.fromEntries((service.tmpfs ?? []).map((mount) => mount.split(/:(.*)/s).slice(0, 2))),
      CapDrop: [...(service.cap_drop ?? [])],
      SecurityOpt: [...(service.security_opt ?? [])],
    },
  };
}

function nanoseconds(duration: unknown): number {
  if (duration === undefined) return 0;
  const text = typeof duration === 'string' ? duration : JSON.stringify(duration);
  const match = /^(\d+)(ms|s|m)$/.exec(text) ?? unsupported(text);
  return Number(match[1]) * { ms: 1e6, s: 1e9, m: 60e9 }[match[2] as 'ms' | 's' | 'm'];
}

function unsupported(what: string): never {
  throw new Error(`The test doesn't know how the compose command reads "${what}".`);
}
