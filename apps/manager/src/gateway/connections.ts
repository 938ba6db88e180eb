import type { EndpointAddress, EndpointGuard } from '#libs/orchestrator/workload.js';
import { TOKEN_HEADER } from '#libs/orchestrator/worker-tokens.js';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { callbackify } from 'node:util';
import { buildConnector, Client } from 'undici';
import { Deadlines } from './deadlines.js';

/** One keep-alive socket to a replica. It carries one call at a time. */
export interface Connection {
  readonly client: Client;
  /** The runner process that accepted it, known after its first answer. */
  runner: string | undefined;
  /** The runner that its call is counted for: a guess until `runner` is known. */
  countedFor: string;
  closed: boolean;
  /** Its socket, since that is a WebSocket's. */
  upgraded?: Duplex;
}

interface Runner {
  inFlight: number;
  /** Since when it holds calls without having answered any, in `performance.now()` milliseconds. */
  unresponsiveSince: number;
}

/** What tells a replica apart from another one that is given the same address later. */
export interface Protection {
  /** Our worker refuses calls of other functions, and its answers show that it is our worker. */
  readonly guard?: EndpointGuard;
  /** The token that it asks for; unset: it answers everybody. */
  readonly token?: string | undefined;
  /** Asks the engine whether an opened connection leads to the replica, before anything is sent over it. */
  readonly confirm?: (signal: AbortSignal) => Promise<boolean>;
}

const CONNECT_TIMEOUT_MS = 2_000;
/** Longer than the engine's own deadline for that question. */
const CONFIRM_TIMEOUT_MS = 5_000;
/** Common servers close an idle socket after five seconds; the manager has to close it first. */
const IDLE_MS = 4_000;
/** A runner that has calls and answered none for this long may be stuck: new calls take a new connection. */
const UNRESPONSIVE_MS = 100;
const MOST_IDLE = 64;

/**
 * The sockets of one replica. Behind its one address several runner processes may answer (a stuck one and its
 * successor), each on the connections it accepted; so an idle socket is used again only while its runner is
 * responsive. A new connection is accepted by whichever runner is alive.
 */
export class Connections {
  /** The time limits of the calls on these sockets. */
  readonly deadlines = new Deadlines();
  private readonly idle: Connection[] = [];
  /** All connections, whether idle or with a call. */
  private readonly open = new Set<Connection>();
  private readonly runners = new Map<string, Runner>();
  private newestRunner = '';
  private closing = false;
  /** The header that goes with each call, as name and value; first, as the worker takes it out of them. */
  readonly tokenHeader: readonly string[];

  constructor(
    private readonly address: EndpointAddress,
    private readonly protection: Protection = {},
  ) {
    this.tokenHeader = protection.token === undefined ? [] : [TOKEN_HEADER, protection.token];
  }

  /**
   * False when the answer can't be the replica's: our worker names its runner, so another image has the address now.
   */
  accepts(runner: string | undefined): boolean {
    return this.protection.guard === undefined || runner !== undefined;
  }

  take(now: number): Connection {
    for (let index = this.idle.length - 1; index >= 0; index -= 1) {
      const connection = this.idle[index] as Connection;
      if (this.isUnresponsive(connection, now)) continue;
      if (index === this.idle.length - 1) this.idle.pop();
      else this.idle.splice(index, 1);
      this.began(connection, now);
      return connection;
    }
    const connection = this.connect();
    this.began(connection, now);
    return connection;
  }

  /** Notes an answer, and which runner gave it. */
  noteAnswer(connection: Connection, runner: string, now: number): void {
    if (connection.runner !== runner) {
      this.ended(connection);
      connection.runner = runner;
      const former = this.newestRunner;
      this.newestRunner = runner;
      this.forgetIfUnused(former);
      this.began(connection, now);
    }
    const known = this.runners.get(runner);
    if (known) known.unresponsiveSince = now;
  }

  /** Puts a connection back after a whole answer. */
  release(connection: Connection): void {
    this.ended(connection);
    if (connection.closed || this.closing || this.idle.length >= MOST_IDLE) this.discard(connection);
    else this.idle.push(connection);
  }

  /** Its socket is a WebSocket's from now on: nothing more is known of its runner by it. */
  handOver(connection: Connection, socket: Duplex): void {
    this.ended(connection);
    connection.closed = true;
    connection.upgraded = socket;
  }

  /** Forgets a connection that was handed over. Its socket ends by itself. */
  letGo(connection: Connection): void {
    this.open.delete(connection);
    connection.client.destroy().catch(() => undefined);
  }

  /** Ends a connection whose call failed, and every idle connection to the same runner, which may be stuck. */
  abandon(connection: Connection): void {
    this.ended(connection);
    this.discard(connection);
    const runner = this.runnerOf(connection);
    for (const other of [...this.idle]) if (this.runnerOf(other) === runner) this.discard(other);
  }

  /** Ends the calls in flight: the replica is gone and can't answer them any more. */
  abortCalls(): void {
    this.closing = true;
    for (const connection of [...this.open]) this.discard(connection);
  }

  /** Closes idle connections now, the others when their calls end. */
  close(): void {
    this.closing = true;
    for (const connection of [...this.idle]) this.discard(connection);
  }

  private connect(): Connection {
    const { address } = this;
    const origin = address.kind === 'tcp' ? `http://${hostOf(address.host)}:${address.port}` : 'http://worker';
    const client = new Client(origin, {
      pipelining: 1,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: this.connector(),
    });
    const connection: Connection = { client, runner: undefined, countedFor: '', closed: false };
    this.open.add(connection);
    client.on('disconnect', () => {
      connection.closed = true;
      if (this.idle.includes(connection)) this.discard(connection);
    });
    return connection;
  }

  private connector(): buildConnector.BuildOptions | buildConnector.connector {
    const { address, protection } = this;
    const { confirm } = protection;
    const options = {
      timeout: CONNECT_TIMEOUT_MS,
      ...(address.kind === 'unix' ? { socketPath: address.path } : {}),
    };
    if (confirm === undefined) return options;
    const open = buildConnector(options);
    const check = callbackify((socket: Socket) => confirmed(socket, confirm));
    return (target, callback) =>
      open(target, (error, socket) => {
        if (error !== null) callback(error, null);
        else check(socket, callback as (error: Error | null, socket: Socket | null) => void);
      });
  }

  private discard(connection: Connection): void {
    const index = this.idle.indexOf(connection);
    if (index >= 0) this.idle.splice(index, 1);
    connection.closed = true;
    this.open.delete(connection);
    connection.upgraded?.destroy();
    // Not awaited: the socket may be in the middle of an answer.
    connection.client.destroy().catch(() => undefined);
  }

  private isUnresponsive(connection: Connection, now: number): boolean {
    const runner = this.runners.get(this.runnerOf(connection));
    return runner !== undefined && runner.inFlight > 0 && now - runner.unresponsiveSince > UNRESPONSIVE_MS;
  }

  /** A connection without an answer so far was most probably accepted by the runner that answered last. */
  private runnerOf(connection: Connection): string {
    return connection.runner ?? this.newestRunner;
  }

  private began(connection: Connection, now: number): void {
    const key = this.runnerOf(connection);
    connection.countedFor = key;
    const runner = this.runners.get(key);
    if (!runner) this.runners.set(key, { inFlight: 1, unresponsiveSince: now });
    else {
      if (runner.inFlight === 0) runner.unresponsiveSince = now;
      runner.inFlight += 1;
    }
  }

  private ended(connection: Connection): void {
    const key = connection.countedFor;
    const runner = this.runners.get(key);
    if (!runner) return;
    runner.inFlight = Math.max(0, runner.inFlight - 1);
    this.forgetIfUnused(key);
  }

  /** Only the newest runner and those with calls are kept, so never more than there are connections. */
  private forgetIfUnused(key: string): void {
    if (key !== this.newestRunner && this.runners.get(key)?.inFlight === 0) this.runners.delete(key);
  }
}

/** Resolves with the socket when it leads to the replica. Otherwise ends it and rejects. */
async function confirmed(socket: Socket, confirm: NonNullable<Protection['confirm']>): Promise<Socket> {
  try {
    if (await confirm(AbortSignal.timeout(CONFIRM_TIMEOUT_MS))) return socket;
    throw new Error('The address belongs to another replica.');
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function hostOf(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
