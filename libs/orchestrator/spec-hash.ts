import { createHash } from 'node:crypto';
import type { Workload } from './workload.js';

/**
 * Names what a replica was made from: two replicas with the same hash are interchangeable. The wanted count is no part
 * of it, and `engine` holds what the provider adds (image, network, …), so that changing those replaces replicas too.
 */
export function specHash(workload: Workload, engine: Readonly<Record<string, unknown>> = {}): string {
  const { timeoutMs, concurrency, memoryMiB, cpuMillis, pids } = workload.limits;
  const spec: unknown[] = [
    workload.functionId,
    workload.revision,
    workload.functionName,
    workload.codeSha256,
    [timeoutMs, concurrency, memoryMiB, cpuMillis, pids],
    sorted(engine),
  ];
  const environment = sorted(workload.environment ?? {});
  // Replicas of functions without any, and without secrets, have the hash that they had before there were such.
  if (environment.length > 0) spec.push(environment);
  if (workload.secrets !== undefined) spec.push({ secrets: workload.secrets.digest });
  if (workload.layer !== undefined) spec.push(workload.layer.digest);
  return createHash('sha256').update(JSON.stringify(spec)).digest('hex').slice(0, 16);
}

function sorted(values: Readonly<Record<string, unknown>>): [string, unknown][] {
  return Object.entries(values).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
