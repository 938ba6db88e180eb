import { timestamp } from '../store/objects.js';
import { type Condition, conditionOf, type Deployment, type ReplicaSet } from './types.js';

interface DeploymentStatus {
  readonly observedGeneration: number | undefined;
  readonly conditions: readonly Condition[];
  readonly [count: string]: unknown;
}

/** A Deployment's status from its ReplicaSets'. Zeroes are left out, as the real one does. */
export function deploymentStatus(
  deployment: Deployment,
  newest: ReplicaSet | undefined,
  sets: readonly ReplicaSet[],
  now: Date,
): DeploymentStatus {
  const sum = (pick: (set: ReplicaSet) => number | undefined) => sets.reduce((all, set) => all + (pick(set) ?? 0), 0);
  const replicas = sum(({ status }) => status.replicas);
  const available = sum(({ status }) => status.availableReplicas);
  const updated = newest?.status.replicas ?? 0;
  const wanted = sum(({ spec }) => spec.replicas);
  const terminating = sum(({ status }) => (status as { terminatingReplicas?: number }).terminatingReplicas);
  return {
    observedGeneration: deployment.metadata.generation,
    replicas: replicas || undefined,
    updatedReplicas: updated || undefined,
    readyReplicas: sum(({ status }) => status.readyReplicas) || undefined,
    availableReplicas: available || undefined,
    unavailableReplicas: Math.max(0, wanted - available) || undefined,
    terminatingReplicas: terminating,
    conditions: [
      progressing(deployment, newest, { replicas, available, updated }, now),
      availability(deployment, available, now),
      ...replicaFailure(deployment, newest, sets, now),
    ],
  };
}

/** Milliseconds until the rollout counts as stuck; undefined when it isn't under way. */
export function ifOverdue({ spec }: Deployment, { conditions }: DeploymentStatus): number | undefined {
  const known = conditions.find(({ type }) => type === 'Progressing');
  if (known === undefined || known.status === 'False' || known.reason === 'NewReplicaSetAvailable') return undefined;
  return Math.max(0, Date.parse(known.lastUpdateTime ?? '') + spec.progressDeadlineSeconds * 1000 - Date.now()) + 50;
}

interface Counts {
  readonly replicas: number;
  readonly available: number;
  readonly updated: number;
}

function progressing(deployment: Deployment, newest: ReplicaSet | undefined, counts: Counts, now: Date): Condition {
  const known = conditionOf(deployment, 'Progressing');
  const { replicas: wanted, progressDeadlineSeconds, paused } = deployment.spec;
  if (paused === true) {
    return condition(known, 'Progressing', 'Unknown', 'DeploymentPaused', 'Deployment is paused', now);
  }
  const set = `ReplicaSet "${newest?.metadata.name ?? ''}"`;
  const before = deployment.status as Partial<Counts> & { updatedReplicas?: number; availableReplicas?: number };
  const isNew = known?.message?.includes(`"${newest?.metadata.name}"`) !== true;
  const complete = counts.updated === wanted && counts.replicas === wanted && counts.available >= wanted;
  if (complete || (known?.reason === 'NewReplicaSetAvailable' && !isNew)) {
    return condition(
      known,
      'Progressing',
      'True',
      'NewReplicaSetAvailable',
      `${set} has successfully progressed.`,
      now,
    );
  }
  if (isNew) {
    const message = `Created new replica set "${newest?.metadata.name ?? ''}"`;
    return condition(known, 'Progressing', 'True', 'NewReplicaSetCreated', message, now);
  }
  const moved = counts.updated > (before.updatedReplicas ?? 0) || counts.available > (before.availableReplicas ?? 0);
  if (moved) {
    return {
      ...condition(known, 'Progressing', 'True', 'ReplicaSetUpdated', `${set} is progressing.`, now),
      lastUpdateTime: timestamp(now),
    };
  }
  const since = Date.parse(known?.lastUpdateTime ?? '');
  if (now.getTime() - since >= progressDeadlineSeconds * 1000) {
    return condition(
      known,
      'Progressing',
      'False',
      'ProgressDeadlineExceeded',
      `${set} has timed out progressing.`,
      now,
    );
  }
  return known ?? condition(known, 'Progressing', 'True', 'ReplicaSetUpdated', `${set} is progressing.`, now);
}

function availability(deployment: Deployment, available: number, now: Date): Condition {
  const known = conditionOf(deployment, 'Available');
  const { replicas, strategy } = deployment.spec;
  const share = strategy.rollingUpdate?.maxUnavailable ?? 0;
  const most = typeof share === 'number' ? share : Math.floor((Number.parseInt(share, 10) / 100) * replicas);
  return available >= replicas - most
    ? condition(known, 'Available', 'True', 'MinimumReplicasAvailable', 'Deployment has minimum availability.', now)
    : condition(
        known,
        'Available',
        'False',
        'MinimumReplicasUnavailable',
        'Deployment does not have minimum availability.',
        now,
      );
}

function replicaFailure(
  deployment: Deployment,
  newest: ReplicaSet | undefined,
  sets: readonly ReplicaSet[],
  now: Date,
): Condition[] {
  const failing = [...(newest === undefined ? [] : [newest]), ...sets].find((set) =>
    conditionOf(set, 'ReplicaFailure'),
  );
  const cause = failing && conditionOf(failing, 'ReplicaFailure');
  if (cause === undefined) return [];
  const known = conditionOf(deployment, 'ReplicaFailure');
  return [condition(known, 'ReplicaFailure', 'True', cause.reason ?? '', cause.message ?? '', now)];
}

/** Keeps its times while nothing changes. */
function condition(
  known: Condition | undefined,
  type: string,
  status: Condition['status'],
  reason: string,
  message: string,
  now: Date,
): Condition {
  const isSame = known?.status === status && known.reason === reason && known.message === message;
  if (known !== undefined && isSame) return known;
  const lastTransitionTime = known?.status === status ? known.lastTransitionTime : undefined;
  return {
    type,
    status,
    lastUpdateTime: timestamp(now),
    lastTransitionTime: lastTransitionTime ?? timestamp(now),
    reason,
    message,
  };
}
