const QUANTITY = /^([+-]?[0-9.]+)([eE][-+]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$/;

const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** `500m` is 0.5, `64Mi` 67108864; undefined for what is no quantity. */
export function quantity(text: unknown): number | undefined {
  const match = QUANTITY.exec(String(text));
  if (match === null) return undefined;
  const [, number = '', suffix = ''] = match;
  const value = Number(number) * (FACTORS[suffix] ?? (suffix === '' ? 1 : Number(`1${suffix}`)));
  return Number.isFinite(value) ? value : undefined;
}
