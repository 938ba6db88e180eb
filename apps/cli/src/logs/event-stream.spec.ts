import fc from 'fast-check';
import { expect, it } from 'vitest';
import { eventsOf, linesOf } from './event-stream.js';

const STREAM =
  ': hello\n\nid: 1\ndata: {"line":"größer"}\n\ndata:two\ndata: lines\r\n\r\nevent: missed\ndata: {"missed":3}\n\ndata: cut';

async function* inPieces(text: string, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let rest = Buffer.from(text);
  for (const size of sizes) {
    yield rest.subarray(0, size);
    rest = rest.subarray(size);
  }
  yield rest;
}

it('reads events with data, however they are cut into pieces', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(20)), async (sizes) => {
      expect(await Array.fromAsync(eventsOf(inPieces(STREAM, sizes)))).toEqual([
        { id: '1', data: '{"line":"größer"}' },
        { id: '1', data: 'two\nlines' },
        { id: '1', data: '{"missed":3}' },
      ]);
    }),
  );
});

it('reads a last line without an end', async () => {
  expect(await Array.fromAsync(linesOf(inPieces('a\nb', [])))).toEqual(['a', 'b']);
});
