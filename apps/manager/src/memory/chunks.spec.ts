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
        expect(chunks.take().equals(Buffer.concat(pieces))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('joins single bytes', () => {
    const chunks = new Chunks();
    for (let byte = 0; byte < 100_000; byte += 1) chunks.add(Buffer.from('x'));
    expect(chunks['list'].length).toBeLessThan(1_000);
    expect(chunks.take()).toHaveLength(100_000);
    expect(chunks.take()).toHaveLength(0);
  });

  it('joins single bytes even when large pieces come between', () => {
    const chunks = new Chunks();
    for (let run = 0; run < 400; run += 1) {
      for (let byte = 0; byte < 255; byte += 1) chunks.add(Buffer.from('x'));
      chunks.add(Buffer.alloc(1_024));
    }
    expect(chunks['list'].length).toBeLessThan(1_000);
    expect(chunks.take()).toHaveLength(400 * (255 + 1_024));
  });

  it('keeps nothing of bytes that were taken', () => {
    const chunks = new Chunks();
    for (let piece = 0; piece < 3; piece += 1) chunks.add(Buffer.alloc(2_000));
    expect(chunks.take()).toHaveLength(6_000);
    expect(chunks['list']).toHaveLength(0);
  });
});
