import { randomBytes } from 'node:crypto';
import type { CoreV1Event, V1Deployment, V1ObjectReference } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { within } from '#libs/deadlines/within.js';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { DEPLOYMENT, EVENT } from './kinds.js';
import type { KubeApi } from './kube-api.js';
import { deploymentName } from './names.js';

const SEND_MS = 2_000;
const SENT_AT_ONCE = 4;
const MOST_WAITING = 256;
/** Of one kind of change of one function: functions that wake and sleep all the time would make a write beside each. */
const PAUSE_MS = 10_000;
/** Older ones begin to count anew, under another name. The API server forgets events after an hour. */
const MOST_REMEMBERED = 4_096;
/** The API server takes no longer message. */
const LONGEST_MESSAGE = 1_024;

/** What happened to a function's Deployment; one word for each kind of it, as `kubectl get events` shows. */
export type Change = 'Created' | 'RolledOut' | 'Restored' | 'Scaled' | 'ScaledToZero' | 'ScaledFromZero' | 'Refused';

export interface Occurrence {
  readonly change: Change;
  readonly message: string;
  /** Tells two of a kind apart: one that is seen again is told once. */
  readonly at?: Date;
}

interface Told {
  readonly name: string;
  readonly first: Date;
  readonly reference: V1ObjectReference;
  last: Date;
  count: number;
  message: string;
}

/**
 * Tells what a manager does, as Kubernetes Events on functions' Deployments and in its log. There is one Event for each
 * kind of change, which counts them. Nobody waits for it: what the API server refuses or is slow to take is dropped.
 */
export class DeploymentEvents {
  /** How many Events were not told. */
  dropped = 0;
  private readonly told = new Map<string, Told>();
  /** Changes to send; one that changes again before it is sent is sent once. */
  private readonly waiting = new Map<string, Change>();
  /** Those that are being sent, or were a moment ago. */
  private readonly resting = new Set<string>();
  private readonly instance = randomBytes(4).toString('hex');
  private sending = 0;
  private names = 0;

  constructor(
    private readonly api: Pick<KubeApi, 'apply' | 'namespace'>,
    private readonly logger: Logger,
  ) {}

  /** @param deployment undefined where the function has none */
  tell(
    functionId: FunctionId,
    deployment: V1Deployment | undefined,
    { change, message, at = new Date() }: Occurrence,
  ): void {
    const uid = deployment?.metadata?.uid;
    const key = `${functionId} ${uid} ${change}`;
    const known = this.told.get(key);
    if (known?.last.getTime() === at.getTime()) return;
    this.logger.info({ functionId, change, reason: message }, 'function changed on the cluster');
    const told = known ?? this.firstOf(functionId, uid, at);
    told.last = at;
    told.count += 1;
    told.message = message.slice(0, LONGEST_MESSAGE);
    remember(this.told, key, told);
    if (this.waiting.size >= MOST_WAITING && !this.waiting.has(key)) return this.drop(new Error('too many wait'));
    this.waiting.set(key, change);
    this.send();
  }

  private firstOf(functionId: FunctionId, uid: string | undefined, first: Date): Told {
    const { apiVersion, kind } = DEPLOYMENT;
    const name = deploymentName(functionId);
    const reference = { apiVersion, kind, name, namespace: this.api.namespace, ...(uid !== undefined && { uid }) };
    this.names += 1;
    return { name: `${name}.${this.instance}${this.names}`, first, reference, last: first, count: 0, message: '' };
  }

  private send(): void {
    for (const [key, change] of this.waiting) {
      if (this.sending >= SENT_AT_ONCE) return;
      if (this.resting.has(key)) continue;
      this.waiting.delete(key);
      const told = this.told.get(key);
      if (told === undefined) continue;
      this.sending += 1;
      this.rest(key);
      void within('an Event', { ms: SEND_MS }, (signal) => this.api.apply(EVENT, this.eventOf(change, told), signal))
        .catch((error: unknown) => this.drop(error))
        .finally(() => {
          this.sending -= 1;
          this.send();
        });
    }
  }

  private rest(key: string): void {
    this.resting.add(key);
    setTimeout(() => {
      this.resting.delete(key);
      this.send();
    }, PAUSE_MS).unref();
  }

  private eventOf(change: Change, { name, first, last, count, message, reference }: Told): CoreV1Event {
    return {
      apiVersion: EVENT.apiVersion,
      kind: EVENT.kind,
      metadata: { name, namespace: this.api.namespace },
      involvedObject: reference,
      type: change === 'Refused' ? 'Warning' : 'Normal',
      reason: change,
      message,
      source: { component: 'service-faas' },
      firstTimestamp: seconds(first),
      lastTimestamp: seconds(last),
      count,
    };
  }

  /** Said once: where the right to make Events is missing, all are dropped. */
  private drop(error: unknown): void {
    this.dropped += 1;
    const level = this.dropped === 1 ? 'warn' : 'debug';
    this.logger[level]({ err: error, dropped: this.dropped }, 'an Event could not be told');
  }
}

/** The API server knows no parts of a second here. */
function seconds(time: Date): Date {
  return new Date(Math.floor(time.getTime() / 1000) * 1000);
}

function remember(told: Map<string, Told>, key: string, one: Told): void {
  told.delete(key);
  told.set(key, one);
  const oldest = told.keys().next();
  if (told.size > MOST_REMEMBERED && oldest.done !== true) told.delete(oldest.value);
}
