import { createServer } from 'node:net';

const LAST = 250;

/** The addresses of one node's pods. */
export class Addresses {
  private last = 0;

  /** @param prefix the first three numbers of all of them */
  constructor(private readonly prefix: string) {}

  /** The one that was given longest ago and on which nothing listens at this port. */
  async nextFree(port: number): Promise<string> {
    for (let tries = 0; tries < LAST; tries += 1) {
      this.last = (this.last % LAST) + 1;
      const address = `${this.prefix}.${this.last}`;
      if (await isFree(address, port)) return address;
    }
    throw new Error(`No address of ${this.prefix}.0/24 is free: is it routed to this machine?`);
  }
}

function isFree(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, address, () => probe.close(() => resolve(true)));
  });
}
