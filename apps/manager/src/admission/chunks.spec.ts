import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Chunks } from './chunks.js';

describe('Chunks', () => {
  it('gives all bytes back in their order, however they came', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(1, 2, 1_023, 1_024), { maxLength: 1_500 }), (sizes) => {
        const chunks = new Chunks();
        const pieces = sizes.map((size, index) => Buffer.alloc(size, index % 251));
        for (const piece of pieces) chunks.add(piece);
        expect(chunks.whole().equals(Buffer.concat(pieces))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('keeps no piece for every byte', () => {
    const chunks = new Chunks();
    for (let byte = 0; byte < 100_000; byte += 1) chunks.add(Buffer.from('x'));
    expect(chunks['list'].length).toBeLessThan(1_000);
    expect(chunks.whole()).toHaveLength(100_000);
    chunks.clear();
    expect(chunks.whole()).toHaveLength(0);
  });
});
