import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LogFrames, logLines } from './log-frames.js';

function frame(stream: 1 | 2, message: string): Buffer {
  const body = Buffer.from(message);
  const header = Buffer.alloc(8);
  header.writeUInt8(stream, 0);
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

const T1 = '2026-01-02T03:04:05.000000001Z';
const T2 = '2026-01-02T03:04:06.000000002Z';

describe('LogFrames', () => {
  it('reads lines of both streams with their times', () => {
    expect(logLines(Buffer.concat([frame(1, `${T1} out\n`), frame(2, `${T2} err\n`)]))).toEqual([
      { time: T1, stream: 'stdout', text: 'out' },
      { time: T2, stream: 'stderr', text: 'err' },
    ]);
  });

  it('joins a long line that came in pieces, each with a time of its own', () => {
    const log = Buffer.concat([frame(1, `${T1} first `), frame(2, `${T1} other\n`), frame(1, `${T2} second\n`)]);
    expect(logLines(log).map(({ text }) => text)).toEqual(['other', 'first second']);
  });

  it('keeps a last line without a line feed', () => {
    expect(logLines(frame(2, `${T1} cut off`))).toEqual([{ time: T1, stream: 'stderr', text: 'cut off' }]);
  });

  it('keeps no more of a line without an end than it shows', () => {
    const piece = frame(1, `${T1} ${'x'.repeat(16_384)}`);
    const frames = new LogFrames();
    for (let sent = 0; sent < 640; sent += 1) expect(frames.push(piece)).toEqual([]);
    const [line] = frames.flush();
    expect(line?.text).toMatch(/^x{65536} … \[10420224 characters cut\]$/);
  });

  it('reads the same however the bytes are cut', () => {
    const log = Buffer.concat([frame(1, `${T1} grüße\n`), frame(2, `${T2} 💥 boom\n`), frame(1, `${T2} \n`)]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: log.length }), { maxLength: 6 }), (cuts) => {
        const frames = new LogFrames();
        const edges = [0, ...cuts.toSorted((a, b) => a - b), log.length];
        const lines = edges.slice(1).flatMap((end, index) => frames.push(log.subarray(edges[index], end)));
        expect(lines.map(({ text }) => text)).toEqual(['grüße', '💥 boom', '']);
      }),
    );
  });
});
