/** Objects here are JSON whose types the schema has checked already. */
export type Fields = Record<string, unknown>;

export function fields(value: unknown): Fields {
  return (value ?? {}) as Fields;
}

export function list(value: unknown): Fields[] {
  return (value ?? []) as Fields[];
}

/** Of a string or a number, and '' of what is absent. */
export function text(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === undefined ? '' : JSON.stringify(value);
}

/** Fills in what is absent. */
export function byDefault(target: Fields, defaults: Fields): void {
  for (const [key, value] of Object.entries(defaults)) target[key] ??= structuredClone(value);
}
