/** Objects here are JSON whose types the schema has checked already. */
export type Fields = Record<string, unknown>;

export function fields(value: unknown): Fields {
  return (value ?? {}) as Fields;
}

export function list(value: unknown): Fields[] {
  return (value ?? []) as Fields[];
}

/** Fills in what is absent. */
export function byDefault(target: Fields, defaults: Fields): void {
  for (const [key, value] of Object.entries(defaults)) target[key] ??= structuredClone(value);
}
