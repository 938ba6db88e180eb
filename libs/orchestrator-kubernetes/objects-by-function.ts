import type { KubernetesObject } from '@kubernetes/client-node';
import type { FunctionId } from '#libs/orchestrator/workload.js';
import { LABEL } from './labels.js';

/** Objects of one kind, by the function that their label names; those of none are the function's with the empty id. */
export class ObjectsByFunction<T extends KubernetesObject> {
  private readonly byFunction = new Map<FunctionId, Map<string, T>>();
  /** Whose each is now: a pod of the pool becomes a function's. */
  private readonly owners = new Map<string, FunctionId>();

  of(functionId: FunctionId): T[] {
    return [...(this.byFunction.get(functionId)?.values() ?? [])];
  }

  get(functionId: FunctionId, name: string): T | undefined {
    return this.byFunction.get(functionId)?.get(name);
  }

  find(name: string): T | undefined {
    const functionId = this.owners.get(name);
    return functionId === undefined ? undefined : this.get(functionId, name);
  }

  all(): T[] {
    return [...this.byFunction.values()].flatMap((objects) => [...objects.values()]);
  }

  put(object: T): void {
    const functionId = functionOf(object);
    const name = object.metadata?.name ?? '';
    if (this.owners.get(name) !== functionId) this.remove(name);
    let objects = this.byFunction.get(functionId);
    if (objects === undefined) this.byFunction.set(functionId, (objects = new Map<string, T>()));
    objects.set(name, object);
    this.owners.set(name, functionId);
  }

  remove(name: string): void {
    const functionId = this.owners.get(name);
    if (functionId === undefined) return;
    this.owners.delete(name);
    const objects = this.byFunction.get(functionId);
    objects?.delete(name);
    if (objects?.size === 0) this.byFunction.delete(functionId);
  }
}

export function functionOf(object: KubernetesObject): FunctionId {
  return object.metadata?.labels?.[LABEL.functionId] ?? '';
}
