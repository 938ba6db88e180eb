import { createHash } from 'node:crypto';
import type { ContainerCreateOptions } from 'dockerode';
import { SECRETS_DIR, workerVariables } from '#libs/orchestrator/generic-worker.js';
import type { Workload, WorkloadLimits } from '#libs/orchestrator/workload.js';
import type { ContainerLimits } from './docker-engine.js';
import type { CallToken } from '#libs/orchestrator/worker-tokens.js';
import { LABEL, replicaLabels } from './labels.js';
import { LAYERS_DIR, layersMount } from './layer-volume.js';
import type { Reach } from './reach.js';
import { CODE_DIR, WORKER_PORT } from './replica.js';
import { SECCOMP_PROFILE } from './seccomp-profile.js';

/** No user of a Debian, Alpine or distroless image. */
const NON_ROOT = '65532:65532';
const PORT_KEY = `${WORKER_PORT}/tcp`;

export interface Placement {
  readonly owner: string;
  readonly image: string;
  readonly network: string;
  /** Empty: the engine's own. */
  readonly runtime: string;
  /** The volume with the layers, which every worker may read; undefined: there are none. */
  readonly layers?: string | undefined;
}

/** What only one replica of a workload has. */
export interface Own {
  readonly spec: string;
  /** The new volume for its code. */
  readonly volume: string;
  readonly reach: Reach;
  /** Its digest alone is for the worker. */
  readonly call: Pick<CallToken, 'credential' | 'sha256'>;
  /** The filter of system calls, as JSON; the engine's own where there is none. */
  readonly seccomp: string | undefined;
}

type OwnOfAny = Pick<Own, 'reach' | 'call' | 'seccomp'>;

/** Memory, processor and processes of one worker. */
export type WorkerLimits = Pick<WorkloadLimits, 'memoryMiB' | 'cpuMillis' | 'pids'>;

/** What the engine is asked to create for one replica; its name is given apart. */
export function containerConfig(workload: Workload, placement: Placement, own: Own): ContainerCreateOptions {
  const { timeoutMs } = workload.limits;
  const config = workerConfig(placement, workload.limits, variablesOf(workload), own);
  const layers = workload.layer === undefined ? [] : layersIn(placement);
  return {
    ...config,
    Labels: { ...replicaLabels(placement.owner, workload, own.spec), [LABEL.credential]: own.call.credential },
    StopTimeout: Math.ceil(timeoutMs / 1000),
    // The root is read-only for the engine too, so the code needs a volume. NoCopy: whatever the image has there, and
    // whoever owns it, stays out; a fresh volume belongs to root.
    HostConfig: { ...config.HostConfig, Mounts: [emptyVolume(placement.owner, own.volume), ...layers] },
  };
}

/** The same for a generic worker, which takes a function only from who shows the token of this digest. */
export function genericConfig(
  placement: Placement,
  limits: WorkerLimits,
  sha256: string,
  leaseMs: number,
  own: OwnOfAny,
): ContainerCreateOptions {
  const generic = { FAAS_SPECIALISE_SHA256: sha256, FAAS_GENERIC_LEASE_MS: String(leaseMs) };
  const config = workerConfig(placement, limits, generic, own);
  return {
    ...config,
    Labels: {
      [LABEL.owner]: placement.owner,
      [LABEL.pool]: placement.image,
      [LABEL.credential]: own.call.credential,
    },
    StopTimeout: 1,
    // The worker lays its code out itself, as a copy of what it keeps in memory, and the secrets that it gets as files.
    HostConfig: {
      ...config.HostConfig,
      Tmpfs: { ...config.HostConfig?.Tmpfs, [CODE_DIR]: CODE_IN_MEMORY, [SECRETS_DIR]: SECRETS_IN_MEMORY },
      // Nothing can be mounted later; whichever function it gets may have one.
      ...(placement.layers !== undefined && { Mounts: layersIn(placement) }),
    },
  };
}

/** What a worker of this function is told here. */
export function variablesOf(workload: Workload): Record<string, string> {
  const { layer } = workload;
  return { ...workerVariables(workload), ...(layer && { FAAS_LAYER: `${LAYERS_DIR}/${layer.digest}` }) };
}

function layersIn({ owner, layers }: Placement) {
  return layers === undefined ? [] : [layersMount(owner, layers)];
}

function workerConfig(
  placement: Placement,
  limits: WorkerLimits,
  variables: Record<string, string>,
  { reach, call, seccomp }: OwnOfAny,
) {
  const env = {
    ...variables,
    FAAS_CALL_SHA256: call.sha256,
    HOME: '/tmp',
    PYTHONUNBUFFERED: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  };
  return {
    Image: placement.image,
    User: NON_ROOT,
    Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    ExposedPorts: { [PORT_KEY]: {} },
    StopSignal: 'SIGTERM',
    // The manager probes by itself; an image's own check would start one more process in every worker again and again.
    Healthcheck: { Test: ['NONE'] },
    AttachStdin: false,
    OpenStdin: false,
    Tty: false,
    HostConfig: {
      ...ISOLATION,
      ...resources(limits),
      ...(placement.runtime === '' ? {} : { Runtime: placement.runtime }),
      SecurityOpt: [...ISOLATION.SecurityOpt, ...(seccomp === undefined ? [] : [`seccomp=${seccomp}`])],
      OomKillDisable: false,
      Ulimits: Object.entries(ULIMITS).map(([Name, most]) => ({ Name, Soft: most, Hard: most })),
      NetworkMode: placement.network,
      // A published port makes the engine let its packets through from every network, loopback only or not.
      PortBindings: reach === 'published' ? { [PORT_KEY]: [{ HostIp: '127.0.0.1', HostPort: '' }] } : {},
      RestartPolicy: { Name: 'no' },
      // A worker that prints faster than the disk writes loses lines instead of stopping.
      LogConfig: {
        Type: 'json-file',
        Config: { 'max-size': '5m', 'max-file': '2', mode: 'non-blocking', 'max-buffer-size': '1m' },
      },
    },
  } satisfies ContainerCreateOptions;
}

const ISOLATION = {
  Init: false,
  Privileged: false,
  ReadonlyRootfs: true,
  CapDrop: ['ALL'],
  SecurityOpt: ['no-new-privileges'],
  IpcMode: 'private',
  Tmpfs: { '/tmp': 'rw,noexec,nosuid,nodev,size=64m,nr_inodes=16384,mode=1777' },
  // What a connection may hold unread: under cgroup version 1 nobody counts it as the worker's. Least, usual and most bytes.
  Sysctls: { 'net.ipv4.tcp_rmem': '4096 65536 262144', 'net.ipv4.tcp_wmem': '4096 65536 262144' },
};
/** Large enough for the largest upload that can be configured. */
const CODE_IN_MEMORY = 'rw,noexec,nosuid,nodev,size=256m,mode=0755,uid=65532,gid=65532';
/** All that a function may have, in whole pages. */
const SECRETS_IN_MEMORY = 'rw,noexec,nosuid,nodev,size=2m,mode=0700,uid=65532,gid=65532';

/**
 * What the kernel counts for each process, or for each user of the host, who is the same in all workers. A soft limit is
 * as high as the hard one: no handler has to know how to raise it.
 */
const ULIMITS = {
  core: 0,
  // The largest concurrency, 1,000 calls, each with one connection of its own and one of a manager, and room for a second
  // manager's. Eight processes have 32,768 of them.
  nofile: 4_096,
  // Bytes that stay out of the host's swap, such as keys.
  memlock: 65_536,
  // Bytes in POSIX message queues: counted for the user, so that one worker could take all that there are.
  msgqueue: 0,
  // Queued real-time signals and POSIX timers; ordinary signals are delivered in any case.
  sigpending: 4_096,
};

/** A digest of the hardening of every worker: replicas made with another are replaced. */
export const HARDENING = createHash('sha256')
  .update(JSON.stringify([ISOLATION, ULIMITS, SECCOMP_PROFILE]))
  .digest('hex')
  .slice(0, 16);

function emptyVolume(owner: string, name: string) {
  const options = { NoCopy: true, Labels: { [LABEL.owner]: owner }, DriverConfig: { Name: '', Options: {} } };
  return { Type: 'volume' as const, Source: name, Target: CODE_DIR, ReadOnly: false, VolumeOptions: options };
}

/** What can be changed while it runs, too. */
export function resources(limits: WorkerLimits): ContainerLimits {
  const memory = limits.memoryMiB * 1024 * 1024;
  return {
    Memory: memory,
    MemorySwap: memory,
    NanoCpus: limits.cpuMillis * 1_000_000,
    PidsLimit: limits.pids,
  };
}
