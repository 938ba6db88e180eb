import type { FunctionId } from '#libs/orchestrator/workload.js';

export const WORKER_PORT = 8000;
export const SERVICE_PORT = 80;
export const CONTAINER = 'worker';
/** Of a pod that builds. */
export const BUILDER = 'builder';
/** Comes before the worker, and fetches its function's packages. */
export const LAYER_CONTAINER = 'layer';
export const CODE_KEY = 'handler.py';

export const deploymentName = (functionId: FunctionId): string => `faas-worker-${functionId}`;
export const serviceName = (functionId: FunctionId): string => `service-${functionId}`;
export const autoscalerName = (functionId: FunctionId): string => `hpa-${functionId}`;

/** One for each revision: a ConfigMap never changes, so that a replica can't come up with another one's code. */
export const codeName = (functionId: FunctionId, revision: number): string => `handler-code-${functionId}-${revision}`;

/** One for each content, and never changed: a replica of a former spec finds what it was made with. */
export const secretsName = (functionId: FunctionId, digest: string): string => `secrets-${functionId}-${digest}`;

/** A ConfigMap of k8s/functions, on which the pool's pods hang. */
export const POOL_OWNER = 'faas-pool';
