import type { EndpointAddress, EndpointGuard } from '#libs/orchestrator/workload.js';
import { TOKEN_HEADER } from '#libs/orchestrator/worker-tokens.js';
import type { Socket } from 'node:net';
import { callbackify } from 'node:util';
import { buildConnector, Client } from 'undici';
import { Deadlines } from './deadlines.js';

/** One keep-alive socket to a replica; carries one call at a time. */
export interface Connection {
  readonly client: Client;
  /** The runner process that accepted it, known after its first answer. */
  runner: string | undefined;
  /** The runner its call is counted for, which is a guess until `runner` is known. */
  countedFor: string;
  closed: boolean;
}

interface Runner {
  inFlight: number;
  /** Since when it holds calls without having answered any, in `performance.now()` milliseconds. */
  silentSince: number;
}

/** How a replica is kept apart from others that are given its address after it. */
export interface Protection {
  /** Our worker refuses calls of other functions by itself, and its answers show that it is one. */
  readonly guard?: EndpointGuard;
  /** What it answers to, where it knows its managers. */
  readonly token?: string | undefined;
  /** Whether an opened connection leads to the replica; asked before anything is sent over it. */
  readonly confirm?: (signal: AbortSignal) => Promise<boolean>;
}

const CONNECT_TIMEOUT_MS = 2_000;
/** Beyond the engine's own deadline for the question. */
const CONFIRM_TIMEOUT_MS = 5_000;
/** Shorter than the five seconds after which common servers close an idle socket, so that we are always first. */
const IDLE_MS = 4_000;
/** A runner that holds calls and answered none for this long may be stuck: new calls take a fresh connection. */
const SILENT_MS = 100;
const MOST_IDLE = 64;

/**
 * The sockets of one replica. Behind its one address several runner processes may answer (a stuck one and its
 * successor), each on the connections it accepted; so an idle socket is used again only while its runner is
 * responsive. A fresh connection is accepted by whichever runner is alive.
 */
export class Connections {
  /** Of the calls on them. */
  readonly deadlines = new Deadlines();
  private readonly idle: Connection[] = [];
  /** Idle or not: a call need not be noted here. */
  private readonly open = new Set<Connection>();
  private readonly runners = new Map<string, Runner>();
  private newestRunner = '';
  private closing = false;
  /** Of each call, as name and value. */
  readonly tokenHeader: readonly string[];

  constructor(
    private readonly address: EndpointAddress,
    private readonly protection: Protection = {},
  ) {
    this.tokenHeader = protection.token === undefined ? [] : [TOKEN_HEADER, protection.token];
  }

  /** False when an answer can't come from the replica: an image without our worker's guard has its address now. */
  accepts(runner: string | undefined): boolean {
    return this.protection.guard === undefined || runner !== undefined;
  }

  take(now: number): Connection {
    for (let index = this.idle.length - 1; index >= 0; index -= 1) {
      const connection = this.idle[index] as Connection;
      if (this.isSilent(connection, now)) continue;
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
  heard(connection: Connection, runner: string, now: number): void {
    if (connection.runner !== runner) {
      this.ended(connection);
      connection.runner = runner;
      const former = this.newestRunner;
      this.newestRunner = runner;
      this.forgetIfUnused(former);
      this.began(connection, now);
    }
    const known = this.runners.get(runner);
    if (known) known.silentSince = now;
  }

  /** Puts a connection back after a whole answer. */
  release(connection: Connection): void {
    this.ended(connection);
    if (connection.closed || this.closing || this.idle.length >= MOST_IDLE) this.discard(connection);
    else this.idle.push(connection);
  }

  /** Ends a connection whose call didn't come to its end, and every idle one of the same runner: it may be stuck. */
  abandon(connection: Connection): void {
    this.ended(connection);
    this.discard(connection);
    const runner = this.runnerOf(connection);
    for (const other of [...this.idle]) if (this.runnerOf(other) === runner) this.discard(other);
  }

  /** Ends the calls under way: the replica is gone, and nobody else will ever answer them. */
  cut(): void {
    this.closing = true;
    for (const connection of [...this.open]) this.discard(connection);
  }

  /** Closes idle connections now and the others as they are released. */
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
    // A socket with an answer under way must not be waited for.
    connection.client.destroy().catch(() => undefined);
  }

  private isSilent(connection: Connection, now: number): boolean {
    const runner = this.runners.get(this.runnerOf(connection));
    return runner !== undefined && runner.inFlight > 0 && now - runner.silentSince > SILENT_MS;
  }

  /** A connection that hasn't answered yet most probably went to the runner that answered last. */
  private runnerOf(connection: Connection): string {
    return connection.runner ?? this.newestRunner;
  }

  private began(connection: Connection, now: number): void {
    const key = this.runnerOf(connection);
    connection.countedFor = key;
    const runner = this.runners.get(key);
    if (!runner) this.runners.set(key, { inFlight: 1, silentSince: now });
    else {
      if (runner.inFlight === 0) runner.silentSince = now;
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

  /** Known are the newest runner and those that have calls: so no more than there are connections. */
  private forgetIfUnused(key: string): void {
    if (key !== this.newestRunner && this.runners.get(key)?.inFlight === 0) this.runners.delete(key);
  }
}

/** The socket once it is known to lead to the replica; rejects, and ends it, otherwise. */
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
