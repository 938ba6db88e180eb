import { type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import { type CloseEvent, type MessageEvent, WebSocket } from 'undici';

/** What a client sends to get a WebSocket. */
export const HANDSHAKE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
} as const;

type Data = string | Buffer;

/** A client as browsers have it, whose messages are asked for one by one. */
export class WebSocketClient {
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
  private readonly arrived: Data[] = [];
  private readonly waiting: ((data: Data) => void)[] = [];

  private constructor(readonly socket: WebSocket) {
    socket.binaryType = 'arraybuffer';
    socket.addEventListener('message', ({ data }: MessageEvent) => {
      const message = typeof data === 'string' ? data : Buffer.from(data as ArrayBuffer);
      const next = this.waiting.shift();
      if (next === undefined) this.arrived.push(message);
      else next(message);
    });
    this.closed = new Promise((resolve) => {
      socket.addEventListener('close', ({ code, reason }: CloseEvent) => resolve({ code, reason }));
    });
  }

  /** Rejects where it is refused. */
  static async open(
    url: string,
    { headers = {}, protocols = [] }: { headers?: Record<string, string>; protocols?: string[] } = {},
  ): Promise<WebSocketClient> {
    const client = new WebSocketClient(new WebSocket(url.replace(/^http/, 'ws'), { headers, protocols }));
    await new Promise<void>((resolve, reject) => {
      client.socket.addEventListener('open', () => resolve());
      client.socket.addEventListener('error', () => reject(new Error('The WebSocket was refused.')));
    });
    return client;
  }

  send(data: string | Buffer<ArrayBuffer>): void {
    this.socket.send(data);
  }

  next(): Promise<Data> {
    const first = this.arrived.shift();
    if (first !== undefined) return Promise.resolve(first);
    return new Promise((resolve) => {
      this.waiting.push(resolve);
    });
  }

  async ask(data: string | Buffer<ArrayBuffer>): Promise<Data> {
    this.send(data);
    return this.next();
  }

  async close(code = 1000, reason = ''): Promise<{ readonly code: number; readonly reason: string }> {
    this.socket.close(code, reason);
    return this.closed;
  }
}

interface Upgraded {
  readonly socket: Socket;
  readonly answer: IncomingMessage;
}

/** A connection after the answer 101, for what no well-behaved client would send. Rejects where it is refused. */
export function upgraded(url: string, headers: Record<string, string> = {}): Promise<Upgraded> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { headers: { ...HANDSHAKE, ...headers }, agent: false });
    outgoing.on('upgrade', (answer, socket: Socket) => {
      socket.on('error', () => undefined);
      resolve({ socket, answer });
    });
    outgoing.on('response', (answer) => {
      answer.resume();
      reject(new Error(`The WebSocket was refused with ${answer.statusCode}.`));
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
}

/** A frame as clients send it, with a mask that changes nothing. */
export function frame(opcode: number, payload: string | Buffer = ''): Buffer {
  const body = Buffer.from(payload);
  const length = body.length < 126 ? Buffer.from([0x80 | body.length]) : Buffer.from([0xfe, 0, 0]);
  if (length.length > 1) length.writeUInt16BE(body.length, 1);
  return Buffer.concat([Buffer.from([0x80 | opcode]), length, Buffer.alloc(4), body]);
}
