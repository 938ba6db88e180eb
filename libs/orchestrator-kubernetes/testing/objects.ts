import type { V1ContainerState, V1Pod, V1PodSpec } from '@kubernetes/client-node';
import { loadConfig } from '#libs/config/load-config.js';
import type { KubernetesConfig } from '#libs/config/config.js';
import { TEST_TOKENS } from '#libs/orchestrator/testing/tokens.js';
import type { Workload } from '#libs/orchestrator/workload.js';
import { podLabels } from '../labels.js';
import type { Placement } from '../pod-template.js';

export const FUNCTION = 'abcdefghijklmnop';

export function workloadOf(changes: Partial<Workload> = {}): Workload {
  return {
    functionId: FUNCTION,
    revision: 7,
    functionName: 'greet',
    code: Buffer.from('def greet(payload): ...'),
    codeSha256: '0'.repeat(64),
    replicas: 1,
    limits: { timeoutMs: 1_500, concurrency: 4, memoryMiB: 512, cpuMillis: 500, pids: 32 },
    ...changes,
  };
}

export function placementOf(changes: Partial<KubernetesConfig> = {}): Placement {
  const { kubernetes } = loadConfig({ WORKER_IMAGE: 'worker:1' }).orchestrator;
  return { owner: 'me', spec: 'hash', config: { ...kubernetes, ...changes }, tokens: TEST_TOKENS };
}

export interface PodWish {
  readonly name?: string;
  readonly spec?: string;
  readonly state?: V1ContainerState;
  readonly lastState?: V1ContainerState;
  readonly ready?: boolean;
  readonly restarts?: number;
  readonly metadata?: V1Pod['metadata'];
  readonly status?: V1Pod['status'];
}

/** A pod of {@link FUNCTION} as the API's JSON has it, where times are strings; its container runs and is ready. */
export function podOf(wish: PodWish = {}): V1Pod {
  const { name = `faas-worker-${FUNCTION}-1`, spec = 'hash', ready = true, restarts = 0 } = wish;
  const state = wish.state ?? { running: { startedAt: at('2026-06-01T12:00:01Z') } };
  return {
    metadata: {
      name,
      uid: `uid-of-${name}`,
      creationTimestamp: at('2026-06-01T12:00:00Z'),
      labels: podLabels('me', workloadOf(), spec),
      ...wish.metadata,
    },
    status: {
      phase: 'Running',
      podIP: '10.0.0.5',
      containerStatuses: [
        {
          name: 'worker',
          image: 'worker:1',
          imageID: '',
          containerID: 'containerd://0123456789abcdef',
          ready,
          restartCount: restarts,
          state,
          ...(wish.lastState !== undefined && { lastState: wish.lastState }),
        },
      ],
      ...wish.status,
    },
  };
}

/** The client's types say `Date`, the API's JSON says it in a string. */
export function at(time: string): Date {
  return time as unknown as Date;
}

/** What keeps the code in a pod from doing harm outside of it. */
export function wallsOf(spec: V1PodSpec) {
  const { serviceAccountName, automountServiceAccountToken, enableServiceLinks, securityContext } = spec;
  return { serviceAccountName, automountServiceAccountToken, enableServiceLinks, securityContext };
}
