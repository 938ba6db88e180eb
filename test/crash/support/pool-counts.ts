import type { Caller } from './caller.js';

export interface PoolCounts {
  readonly ready: number;
  readonly target: number;
  /** Workers that it has given to functions since it was started. */
  readonly given: number;
}

/** What a manager says of its pool; undefined when it says nothing. */
export async function poolCountsOf(caller: Caller): Promise<PoolCounts | undefined> {
  const reply = await caller.metrics();
  if (reply.kind !== 'answer' || reply.status !== 200) return undefined;
  const text = reply.body.toString('utf8');
  const [ready, target] = ['ready', 'target'].map((name) => new RegExp(`^faas_pool_${name} (\\d+)$`, 'm').exec(text));
  if (!ready || !target) return undefined;
  const given = /^faas_pool_takes_total\{outcome="hit"\} (\d+)$/m.exec(text)?.[1];
  return { ready: Number(ready[1]), target: Number(target[1]), given: Number(given ?? 0) };
}
