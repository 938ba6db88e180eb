import type { DockerConfig } from '#libs/config/config.js';

/** `published`: through the worker's port on loopback. `address`: the container's own address on its network. */
export type Reach = 'published' | 'address';

export interface ReachFacts {
  readonly configured: DockerConfig['reach'];
  /** The network has no route out, so ports can't be published on it. */
  readonly internal: boolean;
  /** The engine is reached over a local socket or loopback. */
  readonly engineIsLocal: boolean;
  /** The address the engine's machine has on the network, when this process has the same one. */
  readonly ownGateway: string | undefined;
}

export interface ReachChoice {
  readonly reach: Reach;
  readonly why: string;
}

/**
 * The container's own address saves the engine's user-land proxy, but works only from the machine (or the network
 * namespace) that owns the bridge. A remote engine's gateway may equal one of ours by accident: every fresh Docker
 * hands out the same ranges.
 */
export function chooseReach(facts: ReachFacts): ReachChoice {
  if (facts.internal) return { reach: 'address', why: 'ports cannot be published on an internal network' };
  if (facts.configured !== 'auto') return { reach: facts.configured, why: 'configured' };
  if (!facts.engineIsLocal) return { reach: 'published', why: 'the engine is on another machine' };
  if (facts.ownGateway !== undefined) {
    return { reach: 'address', why: `this machine has the network's gateway ${facts.ownGateway}` };
  }
  return { reach: 'published', why: 'this process is outside the network; it must share loopback with the engine' };
}
