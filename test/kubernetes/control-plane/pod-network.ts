import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';

/** Set apart for tests between machines, so it is nobody's; the API server takes no loopback address for a pod. */
const ALL = '198.18.0.0/15';
const NODES = 512;

/** Addresses of this machine for pods, by a route to itself, which stays. */
export class PodNetwork {
  /** Another one in each run, so that two hardly meet; addresses that are in use are left out in any case. */
  private node = randomInt(NODES);

  static open(): PodNetwork {
    if (!isRouted()) execFileSync('ip', ['route', 'replace', 'local', ALL, 'dev', 'lo']);
    return new PodNetwork();
  }

  /** Why there can be none; undefined when there can. */
  static whyNot(): string | undefined {
    if (process.getuid?.() === 0 || isRouted()) return undefined;
    return `pods have no addresses: sudo ip route add local ${ALL} dev lo`;
  }

  /** The first three numbers of the next node's addresses. */
  next(): string {
    this.node = (this.node + 1) % NODES;
    return `198.${18 + (this.node >> 8)}.${this.node % 256}`;
  }
}

function isRouted(): boolean {
  const shown = execFileSync('ip', ['route', 'show', 'table', 'local', 'exact', ALL], { encoding: 'utf8' });
  return shown.includes(ALL);
}
