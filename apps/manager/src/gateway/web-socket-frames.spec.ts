import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { closeFrame, FrameTracker } from './web-socket-frames.js';

/** A frame with a payload of so many bytes. */
function frame(opcode: number, bytes: number, isMasked = false): Buffer {
  const mask = isMasked ? 0x80 : 0;
  let length = Buffer.from([mask | bytes]);
  if (bytes > 125 && bytes <= 0xffff) {
    length = Buffer.from([mask | 126, 0, 0]);
    length.writeUInt16BE(bytes, 1);
  }
  if (bytes > 0xffff) {
    length = Buffer.from([mask | 127, 0, 0, 0, 0, 0, 0, 0, 0]);
    length.writeBigUInt64BE(BigInt(bytes), 1);
  }
  return Buffer.concat([Buffer.from([0x80 | opcode]), length, Buffer.alloc(isMasked ? 4 : 0), Buffer.alloc(bytes, 8)]);
}

describe('FrameTracker', () => {
  it('finds the ends of frames however their bytes arrive', () => {
    const lengths = fc.oneof(fc.nat(3), fc.constantFrom(125, 126, 127, 65_535, 65_536, 70_000));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(lengths, fc.boolean()), { maxLength: 5 }),
        fc.integer({ min: 1, max: 9_000 }),
        (frames, most) => {
          const pieces = frames.map(([bytes, isMasked]) => frame(2, bytes, isMasked));
          const all = Buffer.concat(pieces);
          const ends = new Set<number>();
          let end = 0;
          for (const { length } of pieces) ends.add((end += length));
          const tracker = new FrameTracker();
          const step = Math.max(most, Math.floor(all.length / 2_000));
          for (let at = 0; at < all.length; at += step) {
            const first = tracker.follow(all.subarray(at, at + step));
            const to = Math.min(at + step, all.length);
            expect(first === undefined ? undefined : at + first).toBe([...ends].find((one) => one > at && one <= to));
            expect(tracker.isBetween).toBe(ends.has(to));
          }
          expect(tracker.hasClosed).toBe(false);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('notes that a side has closed', () => {
    for (const to of ['client', 'server'] as const) {
      const tracker = new FrameTracker();
      const closing = closeFrame(1012, 'See you.', to);
      expect(tracker.follow(Buffer.concat([frame(1, 3), closing]))).toBe(5);
      expect(tracker).toMatchObject({ hasClosed: true, isBetween: true, closedWith: 1012 });
    }
  });

  it('reads the code of a closing frame however its bytes arrive, and none where there is none', () => {
    for (const to of ['client', 'server'] as const) {
      const tracker = new FrameTracker();
      expect(tracker.closedWith).toBeUndefined();
      for (const byte of Buffer.concat([frame(1, 3), closeFrame(1011, 'no', to)])) tracker.follow(Buffer.from([byte]));
      expect(tracker.closedWith).toBe(1011);
    }
    const tracker = new FrameTracker();
    tracker.follow(Buffer.concat([frame(8, 0), frame(2, 5)]));
    expect(tracker).toMatchObject({ hasClosed: true, closedWith: undefined });
  });

  it('knows of no end of a frame that has none', () => {
    const tracker = new FrameTracker();
    tracker.follow(Buffer.from([0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    expect(tracker.follow(Buffer.alloc(1_000))).toBeUndefined();
    expect(tracker.isBetween).toBe(false);
  });
});

describe('closeFrame', () => {
  it('says code and reason, masked only to a server', () => {
    expect(closeFrame(1001, 'bye', 'client')).toEqual(Buffer.from([0x88, 5, 0x03, 0xe9, 0x62, 0x79, 0x65]));
    const masked = closeFrame(1001, 'bye', 'server');
    expect(masked.subarray(0, 2)).toEqual(Buffer.from([0x88, 0x85]));
    const plain = masked.subarray(6).map((byte, index) => byte ^ masked[2 + (index % 4)]!);
    expect(Buffer.from(plain)).toEqual(closeFrame(1001, 'bye', 'client').subarray(2));
  });
});
