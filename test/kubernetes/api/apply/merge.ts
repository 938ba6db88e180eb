import { elementOf, isFields, isItems } from './field-set.js';
import { fieldShape, itemShape, type Shape } from './shapes.js';

/** What is applied, laid over what is there. */
export function mergeApplied(live: unknown, applied: unknown, shape: Shape): unknown {
  if (isFields(live, shape) && isFields(applied, shape)) {
    const merged: Record<string, unknown> = { ...live };
    for (const [field, value] of Object.entries(applied)) {
      const inner = fieldShape(shape, field);
      if (inner !== undefined) merged[field] = mergeApplied(live[field], value, inner);
    }
    return merged;
  }
  if (isItems(live, shape) && isItems(applied, shape)) return mergeItems(live, applied, shape);
  return applied;
}

/** In the applied order; items that only the live list has keep their places among the common ones. */
function mergeItems(live: unknown[], applied: unknown[], shape: Shape): unknown[] {
  const appliedElements = new Set(applied.map((item) => elementOf(item, shape)));
  const liveByElement = new Map(live.map((item) => [elementOf(item, shape), item]));
  const pending = [...live];
  const merged: unknown[] = [];
  for (const item of applied) {
    const element = elementOf(item, shape);
    const existing = liveByElement.get(element);
    const reached = pending.findIndex((one) => elementOf(one, shape) === element);
    if (reached !== -1) {
      const passed = pending.splice(0, reached + 1);
      merged.push(...passed.filter((one) => !appliedElements.has(elementOf(one, shape))));
    }
    merged.push(existing === undefined ? item : mergeApplied(existing, item, itemShape(shape)));
  }
  return [...merged, ...pending.filter((one) => !appliedElements.has(elementOf(one, shape)))];
}

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const isObject = typeof target === 'object' && target !== null && !Array.isArray(target);
  const merged: Record<string, unknown> = isObject ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}
