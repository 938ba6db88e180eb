import { duplexPair, type Duplex } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Cancellation } from './cancellation.js';
import { Deadlines } from './deadlines.js';
import { closeFrame } from './web-socket-frames.js';
import { WebSocketTunnel } from './web-socket-tunnel.js';
import type { WorkerAnswer } from './worker-client.js';

const HELLO = Buffer.from([0x81, 2, 0x68, 0x69]);
const FINE = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x6f, 0x6b]);

describe('WebSocketTunnel', () => {
  const all: Duplex[] = [];
  const begin = ({ timeoutMs = 60_000, idleMs = 60_000 } = {}) => {
    const [clientsEnd, client] = duplexPair({ allowHalfOpen: true });
    const [workersEnd, worker] = duplexPair({ allowHalfOpen: true });
    all.push(clientsEnd, client, workersEnd, worker);
    const cancellation = new Cancellation();
    const endsAt = performance.now() + timeoutMs;
    const ended = Promise.withResolvers<WorkerAnswer>();
    const options = { deadlines: new Deadlines(), endsAt, idleMs, cancellation };
    const tunnel = new WebSocketTunnel(client, worker, options, ended.resolve);
    const heard = (from: Duplex) => {
      const chunks: Buffer[] = [];
      from.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined);
      return () => Buffer.concat(chunks);
    };
    const atClient = heard(clientsEnd);
    const atWorker = heard(workersEnd);
    return { tunnel, clientsEnd, workersEnd, worker, cancellation, ended: ended.promise, atClient, atWorker };
  };
  afterEach(() => {
    for (const stream of all.splice(0)) stream.destroy();
  });

  it('passes both ways, and ends when the worker does after its closing frame', async () => {
    const { tunnel, clientsEnd, workersEnd, ended, atClient, atWorker } = begin();
    workersEnd.write(HELLO);
    clientsEnd.write(FINE);
    await vi.waitFor(() => expect([atClient(), atWorker()]).toEqual([HELLO, FINE]));
    const closing = closeFrame(4000, 'done', 'client');
    workersEnd.end(closing);
    expect(await ended).toMatchObject({ kind: 'streamed' });
    expect([tunnel.bytesUp, tunnel.bytesDown]).toEqual([FINE.length, HELLO.length + closing.length]);
    await vi.waitFor(() => expect(atClient()).toEqual(Buffer.concat([HELLO, closeFrame(4000, 'done', 'client')])));
    expect(clientsEnd.readableEnded).toBe(true);
  });

  it('says that the application has failed where that closes first by the code for it', async () => {
    const failed = begin();
    failed.workersEnd.end(closeFrame(1011, 'no', 'client'));
    expect(await failed.ended).toEqual({ kind: 'failed' });
    // A client sends the code back, and may leave before the worker does.
    const left = begin();
    left.workersEnd.write(closeFrame(1011, 'no', 'client'));
    await vi.waitFor(() => expect(left.atClient()).not.toHaveLength(0));
    left.clientsEnd.end(closeFrame(1011, '', 'server'));
    expect(await left.ended).toEqual({ kind: 'failed' });
    // Workers send back the code that they are sent.
    const echoed = begin();
    echoed.clientsEnd.write(closeFrame(1011, 'mine', 'server'));
    await vi.waitFor(() => expect(echoed.atWorker()).not.toHaveLength(0));
    echoed.workersEnd.end(closeFrame(1011, 'mine', 'client'));
    expect(await echoed.ended).toMatchObject({ kind: 'streamed' });
  });

  it('closes both sides in between two frames', async () => {
    const { tunnel, clientsEnd, workersEnd, ended, atClient, atWorker } = begin();
    const long = Buffer.concat([Buffer.from([0x82, 100]), Buffer.alloc(100, 1)]);
    workersEnd.write(long.subarray(0, 60));
    await vi.waitFor(() => expect(atClient()).toHaveLength(60));
    tunnel.close(1012, 'away');
    expect(await ended).toMatchObject({ kind: 'streamed' });
    // What a side sends after it is told is for nobody.
    clientsEnd.write(FINE);
    workersEnd.write(Buffer.concat([long.subarray(60), HELLO]));
    await vi.waitFor(() => expect(atClient()).toEqual(Buffer.concat([long, closeFrame(1012, 'away', 'client')])));
    expect(atWorker()).toHaveLength(2 + 4 + 2 + 4);
    expect(atWorker()[0]).toBe(0x88);
  });

  it('gives up a side that does not end its frame', async () => {
    const { tunnel, clientsEnd, workersEnd, ended, atClient } = begin();
    workersEnd.write(Buffer.from([0x82, 100, 1]));
    await vi.waitFor(() => expect(atClient()).toHaveLength(3));
    tunnel.close(1012, 'away');
    await ended;
    await vi.waitFor(() => expect(clientsEnd.closed || clientsEnd.readableEnded).toBe(true), 10_000);
  });

  it('hangs up on the worker when the client vanishes, and says why to the client when the worker does', async () => {
    const gone = begin();
    gone.cancellation.cancel();
    expect(await gone.ended).toEqual({ kind: 'cancelled' });
    expect(gone.worker.destroyed).toBe(true);
    const left = begin();
    left.clientsEnd.end();
    expect(await left.ended).toEqual({ kind: 'cancelled' });
    const crashed = begin();
    crashed.workersEnd.end();
    expect(await crashed.ended).toMatchObject({ kind: 'broken_off' });
    await vi.waitFor(() => expect(crashed.atClient()).toEqual(closeFrame(1011, 'The worker has ended.', 'client')));
  });

  it('keeps no more than the client reads while it waits for the end of a frame', async () => {
    const { tunnel, clientsEnd, workersEnd, worker, ended } = begin();
    clientsEnd.pause();
    workersEnd.write(Buffer.concat([Buffer.from([0x82, 127, 0, 0, 0, 0, 0x7f, 0, 0, 0]), Buffer.alloc(64 * 1024)]));
    await vi.waitFor(() => expect(worker.isPaused()).toBe(true));
    tunnel.close(1012, 'away');
    await ended;
    expect(worker.isPaused()).toBe(true);
    clientsEnd.resume();
    await vi.waitFor(() => expect(worker.isPaused()).toBe(false));
    clientsEnd.pause();
    for (let piece = 0; piece < 64; piece += 1) workersEnd.write(Buffer.alloc(64 * 1024));
    await vi.waitFor(() => expect(worker.isPaused()).toBe(true));
    expect(workersEnd.writableLength).toBeGreaterThan(50 * 64 * 1024);
  });

  it('does not cut off what the client has not read yet', async () => {
    const { clientsEnd, workersEnd, ended, atClient } = begin();
    clientsEnd.pause();
    const long = Buffer.concat([Buffer.from([0x82, 126, 0x75, 0x30]), Buffer.alloc(30_000, 1)]);
    const closing = closeFrame(1000, '', 'client');
    for (let pieces = 1; pieces <= 3; pieces += 1) {
      workersEnd.write(long);
      await vi.waitFor(() => expect(clientsEnd.readableLength).toBe(pieces * long.length));
    }
    workersEnd.end(closing);
    // Longer than one that has read all of it may take to leave.
    setTimeout(() => clientsEnd.resume(), 1_500);
    expect(await ended).toMatchObject({ kind: 'streamed', bytes: 3 * long.length + closing.length });
    await vi.waitFor(() => expect(clientsEnd.readableEnded).toBe(true), 10_000);
    expect(atClient()).toEqual(Buffer.concat([long, long, long, closing]));
  });

  it('lets a client that has closed leave before it is answered', async () => {
    const { clientsEnd, ended, atWorker } = begin();
    const closing = closeFrame(1000, '', 'server');
    clientsEnd.end(closing);
    expect(await ended).toMatchObject({ kind: 'streamed' });
    await vi.waitFor(() => expect(atWorker()).toEqual(closing));
  });

  it('ends at its time limit, or when nothing comes for too long', async () => {
    expect(await begin({ timeoutMs: 50 }).ended).toEqual({ kind: 'timed_out', idleMs: undefined });
    const idle = begin({ idleMs: 50 });
    expect(await idle.ended).toEqual({ kind: 'timed_out', idleMs: 50 });
    await vi.waitFor(() => expect(idle.atClient().readUInt16BE(2)).toBe(1001));
  });

  it('reads no more from one side than the other takes', async () => {
    const { workersEnd, clientsEnd, worker } = begin();
    clientsEnd.pause();
    const piece = Buffer.concat([Buffer.from([0x82, 126, 0xff, 0xff]), Buffer.alloc(0xffff)]);
    let taken = 0;
    while (taken < 200 && workersEnd.write(piece)) taken += 1;
    await new Promise((resolve) => setImmediate(resolve));
    await vi.waitFor(() => expect(worker.isPaused()).toBe(true));
    expect(taken).toBeLessThan(200);
    clientsEnd.resume();
    await vi.waitFor(() => expect(worker.isPaused()).toBe(false));
  });
});
