import type { FunctionId } from '#libs/orchestrator/workload.js';
import type { Turn } from './invocation.repository.js';

/** A function that has calls which are due. */
export interface Asking {
  readonly functionId: FunctionId;
  /** Its attempts under way. */
  readonly active: number;
  /** How many more its workers can use. */
  readonly room: number;
}

/**
 * Divides a manager's free places for attempts among the functions that ask. A function has at most half of what the
 * others leave, so that one whose calls take long leaves places for those that come after it, however many it has.
 */
export function turnsOf(
  asking: readonly Asking[],
  { free, concurrency }: { readonly free: number; readonly concurrency: number },
): Turn[] {
  const used = concurrency - free;
  const wanted = asking.map(({ functionId, active, room }) => {
    const share = Math.max(1, Math.ceil((concurrency - (used - active)) / 2));
    return { functionId, most: Math.max(0, Math.min(room, share - active)) };
  });
  const given = new Map<FunctionId, number>();
  let left = free;
  let others = wanted.filter(({ most }) => most > 0).length;
  for (const { functionId, most } of wanted) {
    if (most === 0 || left === 0) continue;
    const got = Math.min(most, Math.max(1, Math.floor(left / others)));
    given.set(functionId, got);
    left -= got;
    others -= 1;
  }
  // What some had no use for.
  for (const { functionId, most } of wanted) {
    const got = given.get(functionId) ?? 0;
    const more = Math.min(left, most - got);
    if (more > 0) given.set(functionId, got + more);
    left -= Math.max(0, more);
  }
  return [...given].map(([functionId, most]) => ({ functionId, most }));
}
