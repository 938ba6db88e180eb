import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type Docker from 'dockerode';
import { type CollectionTag, parse, YAMLSeq } from 'yaml';

export interface ComposeService {
  readonly image: string;
  readonly user?: string;
  readonly command?: readonly string[];
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
  /** Names of the file's own secrets. */
  readonly secrets?: readonly string[];
  readonly mem_limit?: string;
  readonly pids_limit?: number;
  readonly logging?: { readonly driver: string; readonly options: Readonly<Record<string, string>> };
  readonly healthcheck?: { readonly test?: string[]; readonly [timing: string]: unknown };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
}

type Variables = Readonly<Record<string, string>>;

/** docker-compose.yml with its variables filled in, as the compose command reads it. */
export function readCompose(variables: Variables, path = 'docker-compose.yml'): ComposeFile {
  // The compose command's own tag for a list that replaces the other file's.
  const override: CollectionTag = { tag: '!override', collection: 'seq', nodeClass: YAMLSeq };
  return fill(parse(readFileSync(path, 'utf8'), { customTags: [override] }), variables) as ComposeFile;
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
  readonly secrets: ComposeFile['secrets'];
}

/** What the compose command asks the engine to create for a service, as far as our file goes. */
export function containerOf(service: ComposeService, project: Project): Docker.ContainerCreateOptions {
  const { name, network } = project;
  const ports = (service.ports ?? []).map((port) => /^([\d.]+):(\d+):(\d+)$/.exec(port) ?? unsupported(port));
  const { healthcheck } = service;
  return {
    Image: service.image,
    ...(service.user !== undefined && { User: service.user }),
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
      Binds: [
        ...(service.volumes ?? []).map((volume) => (volume.startsWith('/') ? volume : `${name}_${volume}`)),
        ...(service.secrets ?? []).map((secret) => secretMount(secret, project)),
      ],
      Memory: bytes(service.mem_limit),
      PidsLimit: service.pids_limit,
      ...(service.logging && { LogConfig: { Type: service.logging.driver, Config: { ...service.logging.options } } }),
      GroupAdd: (service.group_add ?? []).map(String),
      ReadonlyRootfs: service.read_only ?? false,
      Tmpfs: Object.fromEntries((service.tmpfs ?? []).map((mount) => mount.split(/:(.*)/s).slice(0, 2))),
      CapDrop: [...(service.cap_drop ?? [])],
      SecurityOpt: [...(service.security_opt ?? [])],
    },
  };
}

function secretMount(secret: string, { secrets }: Project): string {
  const file = secrets[secret]?.file ?? unsupported(`the secret ${secret}`);
  return `${resolve(file)}:/run/secrets/${secret}:ro`;
}

function bytes(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d+)([mg])$/.exec(text) ?? unsupported(text);
  return Number(match[1]) * { m: 2 ** 20, g: 2 ** 30 }[match[2] as 'm' | 'g'];
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
