import type { FunctionEntity } from './function.entity.js';

/** What the list tells of each function. */
export type ListedFunction = Pick<
  FunctionEntity,
  | 'id'
  | 'position'
  | 'functionName'
  | 'primaryReplica'
  | 'hostPort'
  | 'phase'
  | 'createdAt'
  | 'timeoutMs'
  | 'idleTimeoutMs'
  | 'minReplicas'
  | 'maxReplicas'
  | 'concurrency'
>;

/** The columns of it. */
export const LISTED = `id, position, function_name AS "functionName", primary_replica AS "primaryReplica",
  host_port AS "hostPort", phase, created_at AS "createdAt", timeout_ms AS "timeoutMs",
  idle_timeout_ms AS "idleTimeoutMs", min_replicas AS "minReplicas", max_replicas AS "maxReplicas", concurrency`;
