import type { NetworkInspectInfo } from 'dockerode';
import type { Logger } from 'pino';
import type { DockerConfig } from '#libs/config/config.js';
import type { DockerEngine } from './docker-engine.js';
import { EngineRefusal, isConflict, isMissing } from './engine-fault.js';
import { NoImageYet } from './host-check.js';
import { chooseReach, type Reach, type ReachChoice } from './reach.js';
import { WorkerFirewall } from './worker-firewall.js';
import { createSocket } from 'node:dgram';

const ICC = 'com.docker.network.bridge.enable_icc';
const NETWORK_LABEL = 'faas.network';

/** The network of that name can't keep workers apart, or can't reach them. */
export class NetworkUnusable extends Error {}

/** Workers must not start before the firewall was checked, and that takes their image, which has to be pulled first. */
export class ImageAwaited extends NetworkUnusable {}

/** Why workers can't use a network that exists; undefined when they can. */
export function networkFault(network: NetworkInspectInfo, internal: boolean): string | undefined {
  const say = (what: string) =>
    `The Docker network ${network.Name} exists and ${what}. Remove it or configure another network name.`;
  if (network.Driver !== 'bridge') return say(`is of the kind "${network.Driver}" instead of "bridge"`);
  if (network.Options?.[ICC] !== 'false') return say('lets workers reach each other');
  if (network.Internal && !internal) return say('has no route out, which is not what is configured');
  if (!network.Internal && internal) return say('has a route out, which is not what is configured');
  return undefined;
}

/** The workers' network, made when it is absent, what it is closed to, and how this process reaches workers on it. */
export class WorkerNetwork {
  private readonly firewall: WorkerFirewall;
  private known: Promise<Reach> | undefined;
  private lastReach: Reach | undefined;

  constructor(
    private readonly engine: DockerEngine,
    private readonly config: DockerConfig,
    private readonly logger: Logger,
  ) {
    this.firewall = new WorkerFirewall(engine, config, logger, () => this.forget());
  }

  /** Looks once and remembers; throws {@link NetworkUnusable} when the network can't be used. */
  ready(): Promise<Reach> {
    if (this.known === undefined) {
      // Shared by all callers, so no single one's signal may end it; the engine's calls have deadlines of their own.
      const looking = this.look(new AbortController().signal);
      this.known = looking;
      looking.catch(() => {
        if (this.known === looking) this.known = undefined;
      });
    }
    return this.known;
  }

  /** How workers that run already are reached, whether or not the network can be used for others. */
  get reach(): Reach {
    return this.lastReach ?? this.choose(undefined).reach;
  }

  /** It is gone, or not what it has to be: the next use makes it again or says so. */
  forget(): void {
    this.known = undefined;
  }

  /** Made when it is absent; throws {@link NetworkUnusable} when it can't be used. */
  inspect(): Promise<NetworkInspectInfo> {
    return this.usable(new AbortController().signal);
  }

  /** The engine was away and may have left out rules of ours. */
  recheck(): void {
    this.firewall.recheck();
  }

  close(): void {
    this.firewall.close();
  }

  /**
   * Frees the addresses of containers that are gone: an engine that is killed while it removes one may keep its place in
   * the network for ever.
   */
  async freePlaces(signal: AbortSignal): Promise<void> {
    for (const { Id: network } of await this.engine.networks(this.config.network, signal)) {
      const places = await this.engine.placesIn(network, signal);
      if (places.length === 0) continue;
      const containers = await this.engine.list([], signal);
      // Whichever has its name now keeps the place.
      const known = new Set(containers.flatMap(({ Id, Names }) => [Id, ...Names.map((one) => one.slice(1))]));
      const left = places.filter(({ container, name }) => !known.has(container) && !known.has(name));
      for (const place of left) await this.engine.freePlace(network, place, signal);
    }
  }

  private async look(signal: AbortSignal): Promise<Reach> {
    const network = await this.present(signal);
    const gateways = (network.IPAM?.Config ?? []).flatMap((range) => range['Gateway']?.replace(/\/.*$/, '') ?? []);
    const own = await Promise.all(gateways.map(isOwnAddress));
    const ownGateway = gateways.find((_, index) => own[index]);
    const { reach, why } = this.choose(ownGateway);
    this.lastReach = reach;
    this.refuseUnfit(network);
    this.logger.info({ network: network.Name, reach, why }, 'chose how to reach workers');
    const protecting = this.firewall.protect(network, this.engine.isLocal ? ownGateway : undefined);
    const open = await protecting.catch((error: unknown) => {
      throw error instanceof NoImageYet ? new ImageAwaited(error.message) : error;
    });
    if (open !== undefined) throw new NetworkUnusable(open);
    return reach;
  }

  private choose(ownGateway: string | undefined): ReachChoice {
    const { reach, internal } = this.config;
    return chooseReach({ configured: reach, internal, engineIsLocal: this.engine.isLocal, ownGateway });
  }

  private async usable(signal: AbortSignal): Promise<NetworkInspectInfo> {
    const network = await this.present(signal);
    this.refuseUnfit(network);
    return network;
  }

  private refuseUnfit(network: NetworkInspectInfo): void {
    const fault = networkFault(network, this.config.internal);
    if (fault !== undefined) throw new NetworkUnusable(fault);
  }

  private async present(signal: AbortSignal): Promise<NetworkInspectInfo> {
    return (await this.find(signal)) ?? (await this.make(signal)) ?? this.missing();
  }

  /**
   * Two managers that start at once can both make the network, and then the engine finds its name ambiguous. All keep
   * the oldest and remove the others of ours.
   */
  private async find(signal: AbortSignal): Promise<NetworkInspectInfo | undefined> {
    const networks = await this.engine.networks(this.config.network, signal);
    const [oldest, ...others] = networks.toSorted(byAge);
    for (const other of others) {
      if (other.Labels?.[NETWORK_LABEL] === undefined) throw new NetworkUnusable(ambiguous(other.Name));
      await this.engine.removeNetwork(other.Id, signal).catch((error: unknown) => {
        if (error instanceof EngineRefusal && !isMissing(error)) throw new NetworkUnusable(ambiguous(other.Name));
        if (!isMissing(error)) throw error;
      });
    }
    return oldest;
  }

  private missing(): never {
    throw new NetworkUnusable(`The Docker network ${this.config.network} vanished as soon as it was made.`);
  }

  private async make(signal: AbortSignal): Promise<NetworkInspectInfo | undefined> {
    const { network, internal } = this.config;
    try {
      await this.engine.createNetwork(
        {
          Name: network,
          // The engine allows two networks of one name unless asked not to.
          CheckDuplicate: true,
          Driver: 'bridge',
          Internal: internal,
          Options: { [ICC]: 'false' },
          Labels: { [NETWORK_LABEL]: 'workers' },
        },
        signal,
      );
      this.logger.info({ network, internal }, 'made the workers’ network');
    } catch (error) {
      // Another manager was faster.
      if (!isConflict(error))
        throw error instanceof EngineRefusal ? new NetworkUnusable(refused(network, error)) : error;
    }
    return this.find(signal);
  }
}

function byAge(a: NetworkInspectInfo, b: NetworkInspectInfo): number {
  return a.Created < b.Created || (a.Created === b.Created && a.Id < b.Id) ? -1 : 1;
}

function ambiguous(network: string): string {
  return `There are several Docker networks called ${network}. Remove all but one of them.`;
}

function refused(network: string, error: EngineRefusal): string {
  return `The Docker network ${network} can't be made: ${error.message}`;
}

/**
 * Whether an address belongs to this machine (or network namespace). Asked by binding to it: the list of interfaces
 * leaves out a bridge that has no container on it yet.
 */
export function isOwnAddress(address: string): Promise<boolean> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  return new Promise((resolve) => {
    socket.once('error', () => {
      socket.close();
      resolve(false);
    });
    socket.bind({ address, port: 0, exclusive: true }, () => socket.close(() => resolve(true)));
  });
}
