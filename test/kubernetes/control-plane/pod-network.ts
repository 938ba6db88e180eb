import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Set apart for tests between machines, so it is nobody's; the API server takes no loopback address for a pod. */
const ALL = '198.18.0.0/15';
const NETWORKS = 16;
/** Of each network, 250 addresses each. */
const NODES = 32;

/** Addresses of this machine for pods, by a route to itself. */
export class PodNetwork {
  private given = 0;

  private constructor(
    private readonly index: number,
    private readonly isOurs: boolean,
  ) {}

  /** Mostly one that no other run has: addresses that are in use are left out in any case. */
  static async open(): Promise<PodNetwork> {
    for (let index = 0; index < NETWORKS && !allRouted(); index += 1) {
      const network = new PodNetwork(index, true);
      try {
        await run('ip', ['route', 'add', 'local', network.cidr, 'dev', 'lo']);
        return network;
      } catch (error) {
        const { stderr = '' } = error as { stderr?: string };
        if (!stderr.includes('File exists')) throw error;
      }
    }
    return new PodNetwork(randomInt(NETWORKS), false);
  }

  /** Why there can be none; undefined when there can. */
  static whyNot(): string | undefined {
    if (process.getuid?.() === 0 || allRouted()) return undefined;
    return `pods have no addresses: sudo ip route add local ${ALL} dev lo`;
  }

  /** The first three numbers of the next node's addresses. */
  next(): string {
    const node = this.given % NODES;
    this.given += 1;
    return `${this.prefix}.${(this.index % 8) * NODES + node}`;
  }

  async close(): Promise<void> {
    if (this.isOurs) await run('ip', ['route', 'del', 'local', this.cidr, 'dev', 'lo']);
  }

  private get prefix(): string {
    return `198.${this.index < 8 ? 18 : 19}`;
  }

  private get cidr(): string {
    return `${this.prefix}.${(this.index % 8) * NODES}.0/19`;
  }
}

function allRouted(): boolean {
  return readFileSync('/proc/net/fib_trie', 'utf8').includes(ALL);
}
