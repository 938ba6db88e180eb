import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { getHealth, probeHealth } from './health-probe.js';
import type { EndpointAddress } from './workload.js';

describe('a worker’s health', () => {
  let server: Server | undefined;

  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });

  const answering = async (listener: RequestListener): Promise<EndpointAddress> => {
    server = createServer(listener);
    await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
    return { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port };
  };

  it('is good only when a 200 says so', async () => {
    const answers = new Map([
      ['{"status":"ok"}', true],
      ['{"status":"no"}', false],
      ['null', false],
      ['ok', false],
    ]);
    for (const [body, good] of answers) {
      expect(await probeHealth(await answering((_, response) => response.end(body)))).toMatchObject({ good });
      server?.close();
    }
    const refused = await answering((_, response) => response.writeHead(500).end('{"status":"ok"}'));
    expect(await probeHealth(refused)).toMatchObject({ good: false });
  });

  it('tells a worker that refuses other functions’ calls from an image that answers whoever calls', async () => {
    const answers = new Map([
      ['{"status":"ok","worker":{"protocol":1}}', 'worker'],
      ['{"status":"ok","worker":{"protocol":2}}', 'worker'],
      ['{"status":"ok","worker":{"protocol":"1"}}', undefined],
      ['{"status":"ok","worker":null}', undefined],
      ['{"status":"ok"}', undefined],
    ]);
    for (const [body, guard] of answers) {
      expect(await probeHealth(await answering((_, response) => response.end(body)))).toEqual({ good: true, guard });
      server?.close();
    }
  });

  it('is not read without end from one who answers without end', async () => {
    let sent = 0;
    const endless = await answering((_, response) => {
      response.writeHead(200);
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(256 * 1024, 120))) sent += 1;
        if (!response.destroyed) response.once('drain', more);
      };
      more();
    });
    const began = performance.now();
    expect(await getHealth(endless, 10_000)).toBeNull();
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(sent).toBeLessThan(1_000);
  });

  it('is nothing where nobody answers in time', async () => {
    const silent = await answering(() => undefined);
    expect(await getHealth(silent, 50)).toBeNull();
    server?.closeAllConnections();
    server?.close();
    expect(await getHealth(silent, 1_000)).toBeNull();
  });
});
