import { createServer } from 'node:net';

const LAST = 250;

/** The addresses of one node's pods. */
export class Addresses {
  private last = 0;

  /** @param prefix the first three numbers of all of them */
  constructor(private readonly prefix: string) {}

  /** The one that was given longest ago and on which nothing listens at this port. */
  async nextFree(port: number): Promise<string> {
    for (;;) {
      this.last = (this.last % LAST) + 1;
      const address = `${this.prefix}.${this.last}`;
      if (await isFree(address, port)) return address;
    }
  }
}

function isFree(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, address, () => probe.close(() => resolve(true)));
  });
}
