import { createSocket } from 'node:dgram';

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
