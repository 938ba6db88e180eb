import type { NetworkInspectInfo } from 'dockerode';
import type { Logger } from 'pino';
import type { DockerConfig } from '#libs/config/config.js';
import type { DockerEngine } from './docker-engine.js';
import { type Bridge, chainsFor, type Family, type FirewallPolicy } from './firewall-rules.js';
import { hostIsOpen } from './host-check.js';
import { ensureChains, families, hasInterface, lacksExtension, nameservers, trackedMost } from './packet-filter.js';

const RECHECK_MS = 60_000;
/** Rules that somebody else has set are looked for from inside a container, so not as often. */
const CHECK_AGAIN_MS = 5 * 60_000;
/** A check that found the machine open is not made again for so long, however many functions wait. */
const TRUSTED_MS = 30_000;

const WHAT_TO_RUN =
  'run what `npm run --silent firewall` (in the manager’s container: `node dist/libs/orchestrator-docker/firewall.js`) prints, as root on the engine’s machine: `… | sudo sh`';

/** The bridge of a network, as the engine names it. */
export function bridgeOf(network: NetworkInspectInfo): Bridge {
  const named = network.Options?.['com.docker.network.bridge.name'];
  return { network: network.Id, name: named ?? `br-${network.Id.slice(0, 12)}`, internal: network.Internal };
}

/** What this machine and the configuration say about the rules. */
export async function policyOf(config: DockerConfig): Promise<FirewallPolicy> {
  const [resolvers, tracked] = await Promise.all([nameservers(), trackedMost()]);
  return { allow: config.firewall.allow, resolvers, tracked };
}

interface Place {
  /** The name of the network. */
  readonly network: string;
  readonly bridge: Bridge & { readonly needsIpv6: boolean };
  /** The network's address of this machine; undefined when this process is elsewhere. */
  readonly gateway: string | undefined;
}

/**
 * Keeps workers from the machine they run on, from each other and from private addresses: sets the rules where this
 * process may, and otherwise finds out whether somebody else has set them. Looks after that from then on.
 */
export class WorkerFirewall {
  private readonly closing = new AbortController();
  private place: Place | undefined;
  private isOurs = false;
  private timer: NodeJS.Timeout | undefined;
  private missesLimits = false;
  private found: { readonly network: string; readonly at: number; readonly fault: string | undefined } | undefined;

  /** @param lost is told when the network is gone, or rules are required and are not there any more */
  constructor(
    private readonly engine: DockerEngine,
    private readonly config: DockerConfig,
    private readonly logger: Logger,
    private readonly lost: () => void,
  ) {}

  /**
   * Resolves with what is wrong where rules are required and are not there; undefined otherwise. Rejects with
   * {@link NoImageYet} where they are required and there is no image yet to look for them.
   *
   * @param gateway the network's address of this machine; undefined when this process is elsewhere
   */
  async protect(network: NetworkInspectInfo, gateway: string | undefined): Promise<string | undefined> {
    const { mode } = this.config.firewall;
    if (mode === 'off') return undefined;
    const { found } = this;
    if (found?.network === network.Id && found.fault !== undefined && Date.now() - found.at < TRUSTED_MS) {
      return this.verdict(found.fault);
    }
    const bridge = { ...bridgeOf(network), needsIpv6: network.EnableIPv6 };
    const place = { network: network.Name, bridge, gateway };
    this.place = place;
    this.timer ??= setInterval(() => this.tick(), RECHECK_MS).unref();
    const refused = await this.set(bridge);
    this.isOurs = refused === undefined;
    if (refused === undefined) {
      this.tellOfOurs(bridge);
      return undefined;
    }
    const checking = this.check(place, refused);
    if (mode === 'required') return this.verdict(await checking);
    // Where workers start all the same, they need not wait for the check. Without an image it is made later.
    checking.catch(() => undefined);
    return undefined;
  }

  /** Sets what somebody took away; of use after the engine was started again. Rules of networks that are gone go. */
  recheck(): void {
    if (this.place !== undefined) void this.lookAgain(this.place, true);
  }

  close(): void {
    this.closing.abort();
    clearInterval(this.timer);
  }

  private tick(): void {
    if (this.place !== undefined) void this.lookAgain(this.place, false);
  }

  private async lookAgain(place: Place, atOnce: boolean): Promise<void> {
    if (this.closing.signal.aborted) return;
    const refused = await this.set(place.bridge);
    if (this.closing.signal.aborted || this.place !== place) return;
    const wereOurs = this.isOurs;
    this.isOurs = refused === undefined;
    if (refused === undefined) {
      if (!wereOurs) this.tellOfOurs(place.bridge);
      return;
    }
    if (wereOurs && !hasInterface(place.bridge.name)) {
      // Its network was removed, perhaps for an older one of the same name that another manager made at that time.
      this.place = undefined;
      this.lost();
      return;
    }
    if (wereOurs) {
      this.logger.warn({ reason: refused }, 'the firewall rules of workers can’t be checked');
    } else if (!atOnce && Date.now() - (this.found?.at ?? 0) < CHECK_AGAIN_MS) return;
    await this.checkAgain(place, refused);
  }

  private async checkAgain(place: Place, refused: string): Promise<void> {
    const isRequired = this.config.firewall.mode === 'required';
    // Said once.
    if (!isRequired && this.found?.fault !== undefined) return;
    const fault = await this.check(place, refused).catch((error: unknown) => (error as Error).message);
    if (fault === undefined || !isRequired || this.closing.signal.aborted) return;
    this.logger.warn({ reason: fault }, 'no further workers start: their firewall rules are missing');
    this.lost();
  }

  private tellOfOurs({ name: bridge }: Bridge): void {
    this.found = undefined;
    this.logger.info({ bridge }, 'workers are kept from this machine and from private addresses');
  }

  private verdict(fault: string | undefined): string | undefined {
    if (fault === undefined || this.config.firewall.mode !== 'required') return undefined;
    return `WORKER_FIREWALL=required: ${fault}. To mend it ${WHAT_TO_RUN}.`;
  }

  /** Why the rules can't be set here; undefined when they are. */
  private async set(bridge: Bridge & { readonly needsIpv6: boolean }): Promise<string | undefined> {
    if (!this.engine.isLocal) return 'the engine is on another machine';
    if (!hasInterface(bridge.name)) return `this process doesn't see the interface ${bridge.name}`;
    const policy = await policyOf(this.config);
    for (const family of families()) {
      const refused = await this.setFamily(bridge, policy, family);
      // Containers have no IPv6 on a network without it, so those rules are only a second wall.
      if (refused !== undefined && (family === 4 || bridge.needsIpv6)) return refused;
    }
    return undefined;
  }

  private async setFamily(bridge: Bridge, policy: FirewallPolicy, family: Family): Promise<string | undefined> {
    const refused = await ensured(bridge, policy, family);
    if (refused === undefined || !lacksExtension(refused)) return refused;
    // Small kernels lack the two extensions; better rules without limits than none.
    const refusedToo = await ensured(bridge, { ...policy, tracked: undefined }, family);
    if (refusedToo !== undefined || this.missesLimits) return refusedToo;
    this.missesLimits = true;
    this.logger.warn(
      { reason: refused },
      'this machine can’t limit the connections of workers, so they may fill its table of connections',
    );
    return undefined;
  }

  /** Finds out whether somebody else has set the rules, and tells what to do when nobody has. */
  private async check({ network, bridge, gateway }: Place, refused: string): Promise<string | undefined> {
    const open = await this.isOpen(network, gateway);
    if (this.closing.signal.aborted) return open;
    const fault = open === undefined ? undefined : `${open}; the rules can't be set from here (${refused})`;
    const before = this.found;
    this.found = { network: bridge.network, at: Date.now(), fault };
    if (fault !== undefined) {
      if (this.config.firewall.mode === 'auto')
        this.logger.warn({ reason: fault }, `workers may reach this machine: ${WHAT_TO_RUN}`);
    } else if (before === undefined || before.fault !== undefined)
      this.logger.info('workers are kept from this machine by rules that somebody else has set');
    return fault;
  }

  private async isOpen(network: string, gateway: string | undefined): Promise<string | undefined> {
    if (gateway === undefined) return 'whether workers reach the engine’s machine can’t be checked from here';
    const { image, internal, firewall } = this.config;
    const place = { image, network, gateway, internal, allow: firewall.allow };
    return hostIsOpen(this.engine, place, this.closing.signal);
  }
}

/** Why not; undefined when it worked. */
async function ensured(bridge: Bridge, policy: FirewallPolicy, family: Family): Promise<string | undefined> {
  try {
    await ensureChains(family, chainsFor(bridge, policy, family));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
