import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cpuQuantity, memoryQuantity } from './quantities.js';

const SCALES: Readonly<Record<string, bigint>> = {
  m: 1n,
  '': 1_000n,
  k: 1_000n * 1_000n,
  M: 1_000n * 1_000n ** 2n,
  G: 1_000n * 1_000n ** 3n,
  Mi: 1n,
  Gi: 1_024n,
  Ti: 1_024n ** 2n,
  Pi: 1_024n ** 3n,
  Ei: 1_024n ** 4n,
};

function parse(quantity: string): { amount: bigint; suffix: string } {
  const [, digits, suffix] = /^(\d+)([a-zA-Z]*)$/.exec(quantity) ?? [];
  if (digits === undefined || suffix === undefined) throw new Error(`${quantity} is no quantity.`);
  return { amount: BigInt(digits), suffix };
}

describe('cpuQuantity', () => {
  it.each([
    [1, '1m'],
    [100, '100m'],
    [1_000, '1'],
    [1_500, '1500m'],
    [10_000, '10'],
    [64_000, '64'],
    [1_000_000, '1k'],
    [1_024_000, '1024'],
    [0, '0'],
  ])('writes %d thousandths of a core as %s', (millis, quantity) => expect(cpuQuantity(millis)).toBe(quantity));
});

describe('memoryQuantity', () => {
  it.each([
    [32, '32Mi'],
    [128, '128Mi'],
    [1_000, '1000Mi'],
    [1_024, '1Gi'],
    [1_536, '1536Mi'],
    [1_048_576, '1Ti'],
    [1_073_741_824, '1Pi'],
    [0, '0'],
  ])('writes %d mebibytes as %s', (mebibytes, quantity) => expect(memoryQuantity(mebibytes)).toBe(quantity));
});

/** Kubernetes' canonical form: no precision lost, no fraction, and the exponent as large as that allows. */
describe.each([
  ['cpuQuantity', cpuQuantity, 1_000n],
  ['memoryQuantity', memoryQuantity, 1_024n],
] as const)('%s', (_name, quantity, step) => {
  it('is canonical for every amount', () => {
    const amounts = fc.oneof(
      fc.integer({ min: 1, max: 1_048_576 }),
      fc.tuple(fc.integer({ min: 1, max: 2_000 }), fc.nat(2)).map(([n, power]) => n * Number(step) ** power),
    );
    fc.assert(
      fc.property(amounts, (amount) => {
        const { amount: shown, suffix } = parse(quantity(amount));
        expect(shown * SCALES[suffix]!).toBe(BigInt(amount));
        expect(shown % step).not.toBe(0n);
      }),
    );
  });
});
