import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { describe, expect, it } from 'vitest';
import { RequestBody } from './request-body.js';

const FREE = { add: () => undefined };
const PIECE = Buffer.alloc(32 * 1024, 'x');

/** A request whose body has so many pieces. */
function requestOf(pieces: number): IncomingMessage {
  const body = Readable.from(Array.from({ length: pieces }, () => PIECE));
  return Object.assign(body, { headers: { 'transfer-encoding': 'chunked' } }) as unknown as IncomingMessage;
}

describe('RequestBody', () => {
  it('reads the rest of a body that nobody wants, so that the next request gets through', async () => {
    const request = requestOf(64);
    const body = new RequestBody(request);
    expect((await body.begin(FREE)).length).toBeLessThan(5 * PIECE.length);
    body.end();
    await finished(request, { writable: false });
    expect(request.readableEnded).toBe(true);
  });

  it('reads it after a worker that has stopped in the middle, too', async () => {
    const request = requestOf(64);
    const body = new RequestBody(request);
    await body.begin(FREE);
    const pieces = body.pieces(Promise.resolve(true));
    for (let count = 0; count < 4; count += 1) expect((await pieces.next()).done).toBe(false);
    body.end();
    await pieces.return();
    await finished(request, { writable: false });
    expect(request.readableEnded).toBe(true);
  });

  it('leaves alone what was not begun, which a sender may still keep to itself', () => {
    const request = requestOf(64);
    new RequestBody(request).end();
    expect(request.readableFlowing).toBeNull();
  });
});
