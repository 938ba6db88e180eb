import type { ContainerCreateOptions } from 'dockerode';
import type { Workload } from '#libs/orchestrator/workload.js';
import { LABEL, replicaLabels } from './labels.js';
import { CODE_DIR, WORKER_PORT } from './replica.js';

/** Nobody on any Debian, Alpine or distroless image. */
const NON_ROOT = '65532:65532';
const PORT_KEY = `${WORKER_PORT}/tcp`;

export interface Placement {
  readonly owner: string;
  readonly spec: string;
  readonly image: string;
  readonly network: string;
  readonly internal: boolean;
  /** The new volume for its code. */
  readonly volume: string;
}

/** What the engine is asked to create for one replica; its name is given apart. */
export function containerConfig(workload: Workload, placement: Placement): ContainerCreateOptions {
  const { limits } = workload;
  return {
    Image: placement.image,
    User: NON_ROOT,
    Env: environment(workload),
    Labels: replicaLabels(placement.owner, workload, placement.spec),
    ExposedPorts: { [PORT_KEY]: {} },
    StopSignal: 'SIGTERM',
    StopTimeout: Math.ceil(limits.timeoutMs / 1000),
    // The manager probes by itself; an image's own check would start one more process in every worker again and again.
    Healthcheck: { Test: ['NONE'] },
    AttachStdin: false,
    OpenStdin: false,
    Tty: false,
    HostConfig: {
      ...isolation(placement),
      ...resources(workload),
      NetworkMode: placement.network,
      PortBindings: placement.internal ? {} : { [PORT_KEY]: [{ HostIp: '127.0.0.1', HostPort: '' }] },
      RestartPolicy: { Name: 'no' },
      // A worker that prints faster than the disk writes loses lines instead of stopping.
      LogConfig: {
        Type: 'json-file',
        Config: { 'max-size': '5m', 'max-file': '2', mode: 'non-blocking', 'max-buffer-size': '1m' },
      },
    },
  };
}

function isolation({ owner, volume }: Placement) {
  return {
    Init: false,
    Privileged: false,
    ReadonlyRootfs: true,
    CapDrop: ['ALL'],
    SecurityOpt: ['no-new-privileges'],
    IpcMode: 'private',
    Tmpfs: { '/tmp': 'rw,noexec,nosuid,nodev,size=64m,mode=1777' },
    // The root is read-only for the engine too, so the code needs a volume. NoCopy: whatever the image has there, and
    // whoever owns it, stays out; a fresh volume belongs to root.
    Mounts: [
      { Type: 'volume' as const, Source: volume, Target: CODE_DIR, ReadOnly: false, VolumeOptions: emptyVolume(owner) },
    ],
  };
}

function emptyVolume(owner: string) {
  return { NoCopy: true, Labels: { [LABEL.owner]: owner }, DriverConfig: { Name: '', Options: {} } };
}

function resources({ limits }: Workload) {
  const memory = limits.memoryMiB * 1024 * 1024;
  return {
    Memory: memory,
    MemorySwap: memory,
    NanoCpus: limits.cpuMillis * 1_000_000,
    PidsLimit: limits.pids,
    OomKillDisable: false,
    Ulimits: [{ Name: 'core', Soft: 0, Hard: 0 }],
  };
}

function environment({ functionId, functionName, limits }: Workload): string[] {
  return [
    `FAAS_FUNCTION=${functionId}`,
    `HANDLER_FUNCTION=function.handler.${functionName}`,
    `FAAS_TIMEOUT_MS=${limits.timeoutMs}`,
    `FAAS_CONCURRENCY=${limits.concurrency}`,
    'HOME=/tmp',
    'PYTHONUNBUFFERED=1',
    'PYTHONDONTWRITEBYTECODE=1',
  ];
}
