import type { Readable } from 'node:stream';
import type Docker from 'dockerode';
import { OrchestratorUnavailable } from '#libs/orchestrator/errors.js';
import { ENGINE, engineFault, EngineRefusal, isConflict, isImageMissing, isMissing } from './engine-fault.js';

const CALL_TIMEOUT_MS = 30_000;
const START_TIMEOUT_MS = 90_000;
/** Beyond the grace itself: the engine kills, unmounts and writes. */
const STOP_MARGIN_MS = 20_000;

const NOT_MODIFIED = 304;

export type ContainerLimits = Pick<Docker.HostConfig, 'Memory' | 'MemorySwap' | 'NanoCpus' | 'PidsLimit'>;

/** The client library takes options where its types don't. */
type WithOptions<T> = (options: { readonly abortSignal: AbortSignal }) => Promise<T>;

/** Of the engine's machine, which may be another than this one. */
export interface EngineDescription {
  readonly memoryBytes: number;
  /** As `uname` has it. */
  readonly machine: string;
  /** Such as `name=seccomp,profile=default`. */
  readonly securityOptions: readonly string[];
}

interface EngineInfo {
  readonly MemTotal: number;
  readonly Architecture?: string;
  readonly SecurityOptions?: readonly string[] | null;
}

export interface NetworkPlace {
  readonly container: string;
  readonly name: string;
}

interface NamedVolume {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** A container and the volume that goes with it. */
interface Removable {
  readonly id: string;
  readonly volume: string | undefined;
}

/**
 * The engine's calls we need, each bounded in time and each idempotent where the engine's own isn't. Throws
 * `OrchestratorUnavailable`, `EngineRefusal`, or the caller's own abort reason.
 */
export class DockerEngine {
  constructor(private readonly docker: Docker) {}

  /** False for an engine on another machine. */
  get isLocal(): boolean {
    const { host } = this.docker.modem as { host?: string };
    return host === undefined || /^(\[?::1\]?|localhost|127\.\d+\.\d+\.\d+)$/.test(host);
  }

  async ping(signal: AbortSignal): Promise<void> {
    const ping = this.docker.ping.bind(this.docker) as WithOptions<unknown>;
    await this.call('ping', signal, (abortSignal) => ping({ abortSignal }), 5_000);
  }

  list(
    labels: readonly string[],
    signal: AbortSignal,
    further: Readonly<Record<string, string[]>> = {},
  ): Promise<Docker.ContainerInfo[]> {
    return this.call('list containers', signal, (abortSignal) =>
      this.docker.listContainers({ all: true, filters: { label: [...labels], ...further }, abortSignal }),
    );
  }

  inspect(idOrName: string, signal: AbortSignal, timeoutMs?: number): Promise<Docker.ContainerInspectInfo> {
    const inspect = (abortSignal: AbortSignal) => this.docker.getContainer(idOrName).inspect({ abortSignal });
    return this.call('inspect a container', signal, inspect, timeoutMs);
  }

  async create(name: string, config: Docker.ContainerCreateOptions, signal: AbortSignal): Promise<string> {
    const created = await this.call(
      'create a container',
      signal,
      // dockerode would put all of the options into the URL as well.
      (abortSignal) => this.docker.createContainer({ _query: { name }, _body: config, abortSignal } as object),
      START_TIMEOUT_MS,
    );
    return created.id;
  }

  /**
   * Runs a container that the engine removes at its end, and resolves with its status; one that takes longer is
   * removed.
   */
  async runToEnd(config: Docker.ContainerCreateOptions, timeoutMs: number, signal: AbortSignal): Promise<number> {
    const create = (abortSignal: AbortSignal) => this.docker.createContainer({ ...config, abortSignal });
    const container = await this.call('create a container', signal, create);
    const ended = this.call(
      'wait for a container',
      signal,
      // Asked before the start, so that its end can't be missed.
      (abortSignal) => container.wait({ condition: 'next-exit', abortSignal }) as Promise<{ StatusCode: number }>,
      timeoutMs,
    );
    try {
      const started = this.start(container.id, signal);
      // The first failure counts; the other is not waited for.
      started.catch(() => undefined);
      ended.catch(() => undefined);
      await started;
      return (await ended).StatusCode;
    } catch (error) {
      await this.remove({ id: container.id, volume: undefined }, true, AbortSignal.timeout(timeoutMs));
      throw error;
    }
  }

  /** The status with which a container ends. */
  async wait(id: string, timeoutMs: number, signal: AbortSignal): Promise<number> {
    const wait = (abortSignal: AbortSignal) =>
      this.docker.getContainer(id).wait({ condition: 'next-exit', abortSignal }) as Promise<{ StatusCode: number }>;
    return (await this.call('wait for a container', signal, wait, timeoutMs)).StatusCode;
  }

  async putArchive(
    id: string,
    path: string,
    archive: Buffer | Readable,
    signal: AbortSignal,
    timeoutMs = Buffer.isBuffer(archive) ? CALL_TIMEOUT_MS : START_TIMEOUT_MS,
  ): Promise<void> {
    await this.call(
      'copy files',
      signal,
      (abortSignal) => this.docker.getContainer(id).putArchive(archive, { path, abortSignal }),
      timeoutMs,
    );
  }

  /** Whether there is such a file or folder in a container. */
  async hasPath(id: string, path: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.call('look for files', signal, (abortSignal) =>
        this.docker.getContainer(id).infoArchive({ path, abortSignal }),
      );
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
  }

  /** Undefined when the engine doesn't have it. */
  async imageId(image: string, signal: AbortSignal): Promise<string | undefined> {
    const found = this.docker.getImage(image);
    const inspect = found.inspect.bind(found) as WithOptions<{ Id: string }>;
    try {
      return (await this.call('inspect an image', signal, (abortSignal) => inspect({ abortSignal }))).Id;
    } catch (error) {
      if (isMissing(error) || isImageMissing(error)) return undefined;
      throw error;
    }
  }

  async start(id: string, signal: AbortSignal): Promise<void> {
    const start = (abortSignal: AbortSignal) => this.docker.getContainer(id).start({ abortSignal });
    await this.call('start a container', signal, start, START_TIMEOUT_MS).catch(ignoring(NOT_MODIFIED));
  }

  async rename(id: string, name: string, signal: AbortSignal): Promise<void> {
    await this.call('rename a container', signal, (abortSignal) =>
      this.docker.getContainer(id).rename({ name, abortSignal }),
    );
  }

  /** Other limits for a container, running or not. */
  async update(id: string, limits: ContainerLimits, signal: AbortSignal): Promise<void> {
    const update = (abortSignal: AbortSignal) => this.docker.getContainer(id).update({ _body: limits, abortSignal });
    await this.call('update a container', signal, update);
  }

  /** SIGTERM, SIGKILL after the grace; resolves when it has ended or is gone. */
  async stop(id: string, graceMs: number, signal: AbortSignal): Promise<void> {
    const stop = (abortSignal: AbortSignal) =>
      this.docker.getContainer(id).stop({ t: Math.ceil(graceMs / 1000), abortSignal } as object);
    await this.call('stop a container', signal, stop, graceMs + STOP_MARGIN_MS).catch(ignoring(NOT_MODIFIED, 404));
  }

  /**
   * Removes a container, then its volume, as the engine itself does only for volumes without a name. Without `force`
   * one that runs is left alone. False when somebody else is removing it, or when it runs.
   */
  async remove({ id, volume }: Removable, force: boolean, signal: AbortSignal): Promise<boolean> {
    const remove = (abortSignal: AbortSignal) =>
      this.docker.getContainer(id).remove({ v: true, force, abortSignal } as object);
    try {
      await this.call('remove a container', signal, remove, START_TIMEOUT_MS);
    } catch (error) {
      if (isConflict(error)) return false;
      if (!isMissing(error)) throw error;
    }
    if (volume !== undefined) await this.removeVolume(volume, signal);
    return true;
  }

  /** Volumes whose names begin so and that no container has. */
  async unusedVolumes(prefix: string, signal: AbortSignal): Promise<string[]> {
    return (await this.listVolumes({ name: [prefix], dangling: ['true'] }, prefix, signal)).map(({ name }) => name);
  }

  volumesNamed(prefix: string, signal: AbortSignal): Promise<NamedVolume[]> {
    return this.listVolumes({ name: [prefix] }, prefix, signal);
  }

  private async listVolumes(filters: object, prefix: string, signal: AbortSignal): Promise<NamedVolume[]> {
    const list = (abortSignal: AbortSignal) => this.docker.listVolumes({ filters, abortSignal } as object);
    const volumes = (await this.call('list volumes', signal, list)).Volumes ?? [];
    // The engine finds the text anywhere in a name.
    return volumes.flatMap(({ Name: name, Labels: labels }) =>
      name.startsWith(prefix) ? [{ name, labels: labels ?? {} }] : [],
    );
  }

  /** Leaves alone one that a container has. */
  async removeVolume(name: string, signal: AbortSignal): Promise<void> {
    const remove = (abortSignal: AbortSignal) => this.docker.getVolume(name).remove({ abortSignal });
    await this.call('remove a volume', signal, remove).catch(ignoring(404, 409));
  }

  /** Does nothing when there is one of this name. */
  async createVolume(name: string, labels: Readonly<Record<string, string>>, signal: AbortSignal): Promise<void> {
    const options = { _query: {}, _body: { Name: name, Labels: labels } };
    await this.call('make a volume', signal, (abortSignal) =>
      this.docker.createVolume({ ...options, abortSignal } as object),
    );
  }

  /** Undefined when there is none. */
  async volumeLabels(name: string, signal: AbortSignal): Promise<Record<string, string> | undefined> {
    const volume = this.docker.getVolume(name);
    const inspect = volume.inspect.bind(volume) as WithOptions<{ Labels?: Record<string, string> | null }>;
    try {
      return (await this.call('inspect a volume', signal, (abortSignal) => inspect({ abortSignal }))).Labels ?? {};
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async describe(signal: AbortSignal): Promise<EngineDescription> {
    const info = this.docker.info.bind(this.docker) as WithOptions<EngineInfo>;
    const found = await this.call('ask about the engine', signal, (abortSignal) => info({ abortSignal }));
    return {
      memoryBytes: found.MemTotal,
      machine: found.Architecture ?? 'unknown',
      securityOptions: found.SecurityOptions ?? [],
    };
  }

  /** Memory of its machine that is free; half of all where that is another one, which the engine doesn't tell of. */
  async freeBytes(signal: AbortSignal): Promise<number> {
    return this.isLocal ? process.availableMemory() : (await this.describe(signal)).memoryBytes / 2;
  }

  /** The whole answer in the engine's multiplexed form. */
  async logTail(id: string, tail: number, timestamps: boolean, signal: AbortSignal): Promise<Buffer> {
    return this.call('read a log', signal, (abortSignal) =>
      this.docker.getContainer(id).logs({ stdout: true, stderr: true, tail, timestamps, abortSignal } as object),
    );
  }

  /** In the engine's multiplexed form, with times. `since`: seconds, with a fraction. */
  async logStream(
    id: string,
    range: { readonly tail: number; readonly since?: string | undefined; readonly follow: boolean },
    signal: AbortSignal,
  ): Promise<Readable> {
    const options = { stdout: true, stderr: true, timestamps: true, ...range };
    return this.open('stream a log', signal, (abortSignal) =>
      this.dial(`/containers/${id}/logs?`, options, abortSignal),
    );
  }

  /** The client library collects the whole of a log that isn't followed. */
  private dial(path: string, options: object, abortSignal: AbortSignal): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const statusCodes = { 200: true, 404: 'no such container', 409: 'dead or marked for removal', 500: 'server error' };
    const request = { path, method: 'GET', isStream: true, options, abortSignal, statusCodes };
    (this.docker.modem as { dial(request: object, done: (error: unknown, answer: unknown) => void): void }).dial(
      request,
      (error, answer) => (error === null || error === undefined ? resolve(answer) : reject(error)),
    );
    return promise;
  }

  async events(filters: Record<string, string[]>, signal: AbortSignal): Promise<Readable> {
    return this.open('follow events', signal, (abortSignal) =>
      this.docker.getEvents({ filters, abortSignal } as object),
    );
  }

  async pull(image: string, authconfig: object | undefined, signal: AbortSignal): Promise<Readable> {
    return this.open('pull an image', signal, (abortSignal) =>
      this.docker.pull(image, { ...(authconfig && { authconfig }), abortSignal }),
    );
  }

  /** All networks of exactly this name: the engine doesn't keep names unique. */
  async networks(name: string, signal: AbortSignal): Promise<Docker.NetworkInspectInfo[]> {
    const filters = { name: [name] };
    const list = (abortSignal: AbortSignal) => this.docker.listNetworks({ filters, abortSignal } as object);
    return (await this.call('list networks', signal, list)).filter((network) => network.Name === name);
  }

  async removeNetwork(id: string, signal: AbortSignal): Promise<void> {
    const network = this.docker.getNetwork(id);
    const remove = network.remove.bind(network) as WithOptions<unknown>;
    await this.call('remove a network', signal, (abortSignal) => remove({ abortSignal }));
  }

  /** Who has an address in a network, as the engine remembers it. */
  async placesIn(network: string, signal: AbortSignal): Promise<NetworkPlace[]> {
    const found = this.docker.getNetwork(network);
    const inspect = found.inspect.bind(found) as WithOptions<Docker.NetworkInspectInfo>;
    const { Containers } = await this.call('inspect a network', signal, (abortSignal) => inspect({ abortSignal }));
    return Object.entries(Containers ?? {}).map(([container, { Name: name }]) => ({ container, name }));
  }

  /** By the container's name, as the engine may no longer know the container. */
  async freePlace(network: string, { name }: NetworkPlace, signal: AbortSignal): Promise<void> {
    const found = this.docker.getNetwork(network);
    const disconnect = found.disconnect.bind(found) as (options: object) => Promise<unknown>;
    await this.call('free a place in a network', signal, (abortSignal) =>
      disconnect({ Container: name, Force: true, abortSignal }),
    );
  }

  async createNetwork(options: Docker.NetworkCreateOptions, signal: AbortSignal): Promise<void> {
    await this.call('create a network', signal, (abortSignal) =>
      this.docker.createNetwork({ ...options, abortSignal }),
    );
  }

  /** A stream has a deadline for its first answer only; afterwards it lasts until `signal` aborts. */
  private async open(
    what: string,
    signal: AbortSignal,
    attempt: (abortSignal: AbortSignal) => Promise<unknown>,
  ): Promise<Readable> {
    const lifetime = new AbortController();
    const stream = AbortSignal.any([signal, lifetime.signal]);
    try {
      return (await this.call(what, signal, () => attempt(stream))) as Readable;
    } catch (error) {
      lifetime.abort();
      throw error;
    }
  }

  /**
   * The client library never settles when the connection is cut in the middle of an answer, so the deadline is a race
   * and not only a signal handed down.
   */
  private async call<T>(
    what: string,
    signal: AbortSignal,
    attempt: (abortSignal: AbortSignal) => Promise<T>,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<T> {
    signal.throwIfAborted();
    const deadline = AbortSignal.timeout(timeoutMs);
    const either = AbortSignal.any([signal, deadline]);
    const { promise: over, reject } = Promise.withResolvers<never>();
    const abort = () => reject(either.reason as Error);
    either.addEventListener('abort', abort, { once: true });
    try {
      return await Promise.race([attempt(either), over]);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (deadline.aborted)
        throw new OrchestratorUnavailable(ENGINE, `no answer in ${timeoutMs} ms to "${what}"`, error);
      throw engineFault(error) ?? error;
    } finally {
      either.removeEventListener('abort', abort);
    }
  }
}

function ignoring(...statuses: number[]): (error: unknown) => void {
  return (error) => {
    if (error instanceof EngineRefusal && statuses.includes(error.status)) return;
    throw error;
  };
}
