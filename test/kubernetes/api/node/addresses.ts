import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Of the loopback network, apart from what people use by hand. */
const FIRST_OCTETS = [64, 120] as const;

/** Loopback addresses that are nobody else's on this machine, none given twice. */
export class Addresses {
  private readonly second = randomInt(...FIRST_OCTETS);
  private third = randomInt(0, 250);
  private last = 1;
  private readonly given = new Set<string>();

  next(): string {
    do {
      this.last += 1;
      if (this.last > 250) {
        this.last = 2;
        this.third = (this.third + 1) % 250;
      }
    } while (this.given.has(this.current));
    this.given.add(this.current);
    return this.current;
  }

  /** One on which nothing listens at this port: another suite may have chosen the same part of the network. */
  async nextFree(port: number): Promise<string> {
    for (;;) {
      const address = this.next();
      if (await isFree(address, port)) return address;
    }
  }

  private get current(): string {
    return `127.${this.second}.${this.third}.${this.last}`;
  }
}

function isFree(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, address, () => probe.close(() => resolve(true)));
  });
}
