import type { Endpoint, FunctionId, WorkloadFault } from '#libs/orchestrator/workload.js';
import type { InvocationPolicy } from '../invocations/invocation-policy.js';
import { isLive, type Traffic, type WantedTraffic } from '../traffic/traffic.js';
import type { HistorySetting } from './dto/history-setting.dto.js';
import type { SecretTargets } from '../revisions/secret-targets.js';
import {
  type HandlerKind,
  propertyOf,
  SETTING_NAMES,
  type SettingName,
  type SpecColumns,
} from '../revisions/function-spec.js';
import { Column, CreateDateColumn, Entity, getMetadataArgsStorage, PrimaryColumn } from 'typeorm';

/** The state of a function as it was last seen. */
export const PHASES = ['creating', 'running', 'idle', 'stopped', 'error', 'deleting'] as const;
export type Phase = (typeof PHASES)[number];

/** A {@link WorkloadFault} as the row keeps it, or a fault of the engine or the manager. */
export interface StoredFault extends Omit<WorkloadFault, 'code' | 'at'> {
  readonly code: WorkloadFault['code'] | 'orchestrator_unavailable' | 'internal_error';
  /** RFC 3339. */
  readonly at: string;
}

/** Why a function in error is so: while it is tried again, what counts is how the last try failed. */
export function errorOf({ reason, lastFault }: Pick<FunctionEntity, 'reason' | 'lastFault'>): StoredFault | null {
  return reason === null || reason.code === 'starting' ? lastFault : reason;
}

/** Desired and observed state of one function; also the queue entry of its reconciling. */
@Entity('functions')
export class FunctionEntity {
  @PrimaryColumn({ type: 'text' })
  id: string;

  /** Grows with every insert: the order of the list. */
  @Column({ type: 'bigint', insert: false, update: false })
  position: string;

  /** What users call it; null: they use its id. No two functions have the same, but for those that are being removed. */
  @Column({ type: 'text', nullable: true })
  name: string | null;

  @Column({ type: 'text' })
  description: string;

  @Column({ type: 'jsonb' })
  labels: Readonly<Record<string, string>>;

  /** False: calls are refused. */
  @Column({ type: 'boolean' })
  enabled: boolean;

  /** It may be called over HTTP without a key. */
  @Column({ type: 'boolean', default: false })
  public: boolean;

  /** What its calls for later have that say nothing else. */
  @Column({ type: 'jsonb' })
  invocation_defaults: InvocationPolicy;

  /** What is kept of its calls. */
  @Column({ type: 'jsonb' })
  history: HistorySetting;

  /** Grows with every change of what users say of the function. */
  @Column({ type: 'integer', default: 1 })
  version: number;

  @Column({ name: 'function_name', type: 'text' })
  functionName: string;

  /** The one that workers shall have. */
  @Column({ name: 'active_revision', type: 'integer' })
  activeRevision: number;

  /** The one that has the calls while the active one is on its way to take over; null: the active one. */
  @Column({ name: 'serving_revision', type: 'integer', nullable: true })
  servingRevision: number | null;

  /** By when the active revision must have taken over. */
  @Column({ name: 'rollout_until', type: 'timestamptz', nullable: true })
  rolloutUntil: Date | null;

  /** The time limit of calls on replicas of the revision before the active one. */
  @Column({ name: 'former_timeout_ms', type: 'integer', nullable: true })
  formerTimeoutMs: number | null;

  /** Numbers up to this one have been given to revisions. */
  @Column({ name: 'last_revision', type: 'integer', default: 1 })
  lastRevision: number;

  /** The function whose revision this row runs beside the function's own workers; null: it is a function itself. */
  @Column({ name: 'workload_of', type: 'text', nullable: true })
  workloadOf: FunctionId | null;

  /** How users have divided its calls; null: they haven't. */
  @Column({ type: 'jsonb', nullable: true })
  traffic: Traffic | null;

  /** How they shall be divided once all workers for it are ready. */
  @Column({ name: 'wanted_traffic', type: 'jsonb', nullable: true })
  wantedTraffic: WantedTraffic | null;

  /** Its revision has no calls: its workers stay for a while, whatever its settings say. Null: it has. */
  @Column({ name: 'resting_since', type: 'timestamptz', nullable: true })
  restingSince: Date | null;

  /** The settings that its upload has named. The others follow the installation's defaults. */
  @Column({ type: 'text', array: true })
  said: readonly SettingName[];

  /** How many are wanted now. The autoscaler and the activator change it. */
  @Column({ type: 'integer' })
  replicas: number;

  /** Replicas that stay ready without calls. */
  @Column({ name: 'min_replicas', type: 'integer' })
  minReplicas: number;

  /** Null: as many as the engine's default allows. */
  @Column({ name: 'max_replicas', type: 'integer', nullable: true })
  maxReplicas: number | null;

  /** After this time without a call the function loses its replicas; 0: never. */
  @Column({ name: 'idle_timeout_ms', type: 'integer' })
  idleTimeoutMs: number;

  /** Written every few seconds while there are calls. */
  @Column({ name: 'last_used_at', type: 'timestamptz', insert: false })
  lastUsedAt: Date;

  @Column({ name: 'timeout_ms', type: 'integer' })
  timeoutMs: number;

  @Column({ type: 'integer' })
  concurrency: number;

  @Column({ name: 'memory_mib', type: 'integer' })
  memoryMiB: number;

  @Column({ name: 'cpu_millis', type: 'integer' })
  cpuMillis: number;

  @Column({ type: 'integer' })
  pids: number;

  /** Variables of the handler's environment. */
  @Column({ type: 'jsonb' })
  env: Readonly<Record<string, string>>;

  /** Names of secrets, by where the handler finds their values. */
  @Column({ type: 'jsonb' })
  secrets: SecretTargets;

  /** Packages that its upload has named. */
  @Column({ type: 'text', nullable: true })
  requirements: string | null;

  /** What its handler is called with. */
  @Column({ name: 'handler_kind', type: 'text' })
  handlerKind: HandlerKind;

  /** Grows whenever what is wanted changes. */
  @Column({ type: 'integer', default: 1 })
  generation: number;

  /** The newest generation seen running as wanted. */
  @Column({ name: 'observed_generation', type: 'integer', default: 0 })
  observedGeneration: number;

  @Column({ type: 'text' })
  phase: Phase;

  @Column({ name: 'phase_since', type: 'timestamptz', insert: false })
  phaseSince: Date;

  /** Why the function isn't as wanted; null: it is. */
  @Column({ type: 'jsonb', nullable: true })
  reason: StoredFault | null;

  /** The last fault, kept after it is over. */
  @Column({ name: 'last_fault', type: 'jsonb', nullable: true })
  lastFault: StoredFault | null;

  @Column({ type: 'jsonb', default: [] })
  endpoints: Endpoint[];

  @Column({ name: 'primary_replica', type: 'text', default: '' })
  primaryReplica: string;

  @Column({ name: 'host_port', type: 'integer', default: 0 })
  hostPort: number;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt: Date;

  /** It is there for one call, provisional for as long as that may take, and no function to anybody else. */
  @Column({ name: 'is_run', type: 'boolean', default: false })
  isRun: boolean;

  /** Set until the function was ready for the first time. One that isn't ready by then is removed. */
  @Column({ name: 'provisional_until', type: 'timestamptz', nullable: true })
  provisionalUntil: Date | null;

  /** The finalizer: set by a removal, and the row goes when the engine has nothing left. */
  @Column({ name: 'deleted_at', type: 'timestamptz', nullable: true })
  deletedAt: Date | null;

  /** When the next reconcile is due; null: only when something asks for one. */
  @Column({ name: 'reconcile_at', type: 'timestamptz', nullable: true })
  reconcileAt: Date | null;

  /** Backoff: replicas that ended aren't replaced before this. */
  @Column({ name: 'not_before', type: 'timestamptz', nullable: true })
  notBefore: Date | null;

  /** Grows with every request to reconcile, so that one that arrives during a step isn't lost. */
  @Column({ name: 'wakes', type: 'integer', default: 0 })
  reconcileRequests: number;

  /** How often in a row a replica ended by itself or couldn't be started. */
  @Column({ type: 'integer', default: 0 })
  failures: number;

  /** How often in a row a step couldn't be made, for which the function is not to blame. */
  @Column({ type: 'integer', default: 0 })
  postponed: number;

  @Column({ name: 'lease_token', type: 'uuid', nullable: true })
  leaseToken: string | null;

  @Column({ name: 'lease_until', type: 'timestamptz', nullable: true })
  leaseUntil: Date | null;
}

/** The revision that has the calls. */
export function servingOf({
  activeRevision,
  servingRevision,
}: Pick<FunctionEntity, 'activeRevision' | 'servingRevision'>): number {
  return servingRevision ?? activeRevision;
}

/** Whether users say which revision has how many calls, or are about to. */
export function isDivided({ traffic, wantedTraffic }: Pick<FunctionEntity, 'traffic' | 'wantedTraffic'>): boolean {
  return isLive(wantedTraffic) ? !wantedTraffic.isAuto : traffic !== null;
}

/** Whether a revision has calls. */
export function isServing(row: FunctionEntity, revision: number): boolean {
  const { traffic } = row;
  if (traffic === null) return revision === servingOf(row);
  return traffic.targets.some((target) => target.revision === revision && target.percent > 0);
}

/** Of several revisions that have calls the newest. */
export function newestServing(row: Pick<FunctionEntity, 'activeRevision' | 'servingRevision' | 'traffic'>): number {
  const serving = (row.traffic?.targets ?? []).filter(({ percent }) => percent > 0).map(({ revision }) => revision);
  return serving.length > 0 ? Math.max(...serving) : servingOf(row);
}

/** What the list shows of each function. */
const LISTED = [
  'id',
  'position',
  'name',
  'description',
  'labels',
  'enabled',
  'public',
  'invocation_defaults',
  'history',
  'functionName',
  'primaryReplica',
  'hostPort',
  'phase',
  'createdAt',
] as const satisfies (keyof FunctionEntity)[];

export type ListedFunction = Pick<FunctionEntity, (typeof LISTED)[number] | keyof SpecColumns>;

/** Columns as statements select them. Every read gives plain objects with the names of {@link FunctionEntity}. */
export const ALL_COLUMNS = selection();
export const LISTED_COLUMNS = selection([...LISTED, ...SETTING_NAMES.map(propertyOf)]);

function selection(properties?: readonly string[]): string {
  return getMetadataArgsStorage()
    .filterColumns(FunctionEntity)
    .filter(({ propertyName }) => properties?.includes(propertyName) ?? true)
    .map(({ propertyName, options }) => `${options.name ?? propertyName} AS "${propertyName}"`)
    .join(', ');
}
