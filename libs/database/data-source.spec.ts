import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { type Logger, pino } from 'pino';
import { DataSource } from 'typeorm';
import { expect, it } from 'vitest';
import { isConnectionFault } from './connection-fault.js';
import { dataSourceOptions } from './data-source.js';

/** A message of the server: https://www.postgresql.org/docs/current/protocol-message-formats.html */
function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

const AUTHENTICATED = message('R', Buffer.alloc(4));
const READY = message('Z', Buffer.from('I'));
const ENDING = message(
  'E',
  Buffer.from('SFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0'),
);

it('outlives a server that ends in the same breath in which it is ready', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(Buffer.concat([AUTHENTICATED, READY, ENDING])));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const url = `postgres://nobody@127.0.0.1:${port}/none`;
  const logger: Logger = pino({ level: 'silent' });
  const source = new DataSource(dataSourceOptions({ url, poolSize: 1, entities: [], logger }));
  // An error that nobody listens to would fail the whole run.
  await expect(source.initialize()).rejects.toSatisfy(isConnectionFault);
  server.close();
});
