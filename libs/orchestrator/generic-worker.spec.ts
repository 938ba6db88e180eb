import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import {
  kindOf,
  oneTimeToken,
  SecretsIgnored,
  specialise,
  specialisationOf,
  workerVariables,
} from './generic-worker.js';
import type { EndpointAddress } from './workload.js';

let server: Server | undefined;

async function answering(listener: RequestListener): Promise<EndpointAddress> {
  server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

describe('a one-time token', () => {
  it('is another one each time, and told to its worker as a digest', () => {
    const [one, other] = [oneTimeToken(), oneTimeToken()];
    expect(one.token).not.toBe(other.token);
    expect(one.token.length).toBeGreaterThanOrEqual(43);
    expect(one.sha256).toBe(createHash('sha256').update(one.token).digest('hex'));
  });
});

describe('what kind of worker answers', () => {
  it.each([
    [503, '{"status":"generic"}', 'generic'],
    [200, '{"status":"ok"}', 'other'],
    [200, '{"status":"generic"}', 'other'],
    [503, '{"status":"draining"}', 'other'],
    [503, 'Service Unavailable', 'other'],
    [404, '', 'other'],
  ])('of %i %s is told', async (status, body, kind) => {
    const address = await answering((_, response) => response.writeHead(status).end(body));
    expect(await kindOf(address, false)).toBe(kind);
  });

  it('is silent where nobody answers in time', async () => {
    const address = await answering(() => undefined);
    expect(await kindOf(address, false, 50)).toBe('silent');
  });

  it('renews the lease only when it is meant to', async () => {
    const leases: unknown[] = [];
    const address = await answering((request, response) => {
      leases.push(request.headers['x-faas-lease']);
      response.writeHead(503).end('{"status":"generic"}');
    });
    await kindOf(address, false);
    await kindOf(address, 'its token');
    expect(leases).toEqual([undefined, 'renew']);
  });
});

describe('what a worker is told of secrets', () => {
  const workload = {
    functionId: 'a',
    revision: 1,
    functionName: 'handle',
    code: Buffer.from('code'),
    codeSha256: '',
    replicas: 1,
    limits: { timeoutMs: 1, concurrency: 2, memoryMiB: 3, cpuMillis: 4, pids: 5 },
    secrets: { variables: { A: 'one', B: 'two' }, files: { f: 'three' }, digest: '' },
  };

  it('are the names of variables wherever variables can be looked at, and all of it when it takes its function', () => {
    expect(workerVariables(workload)).toMatchObject({ FAAS_SECRETS: 'A,B' });
    expect(JSON.stringify(workerVariables(workload))).not.toMatch(/one|two|three/);
    expect(specialisationOf(workload)).toMatchObject({
      environment: { FAAS_SECRETS: 'A,B', A: 'one', B: 'two' },
      files: { f: 'three' },
    });
    const { secrets: _, ...without } = workload;
    expect(workerVariables(without)).not.toHaveProperty('FAAS_SECRETS');
  });
});

describe('giving a worker its function', () => {
  const signal = () => AbortSignal.timeout(5_000);

  it('hands over the environment and the code byte for byte', async () => {
    const asked: { path: string | undefined; token: string | undefined; body: unknown }[] = [];
    const address = await answering((request, response) => {
      void text(request).then((body) => {
        asked.push({ path: request.url, token: request.headers.authorization, body: JSON.parse(body) });
        response.writeHead(202).end('{}');
      });
    });
    const code = Buffer.from([0x23, 0xff, 0x00, 0x0a]);
    await specialise(address, 'secret', { environment: { A: 'ö' }, code }, signal());
    await specialise(address, 'secret', { environment: {} }, signal());
    expect(asked).toEqual([
      { path: '/specialise', token: 'Bearer secret', body: { environment: { A: 'ö' }, code: code.toString('base64') } },
      { path: '/specialise', token: 'Bearer secret', body: { environment: {} } },
    ]);
  });

  it('hands over the files of secrets, and fails with a worker that leaves them', async () => {
    let answer = '{"status":"specialised","files":1}';
    const bodies: unknown[] = [];
    const address = await answering((request, response) => {
      void text(request).then((body) => {
        bodies.push(JSON.parse(body));
        response.writeHead(202).end(answer);
      });
    });
    const what = { environment: { A: 'secret' }, files: { 'tls.pem': 'ö' } };
    await specialise(address, 'token', what, signal());
    expect(bodies).toEqual([what]);
    for (answer of ['{"status":"specialised"}', '', '[]', '{"files":"1"}']) {
      await expect(specialise(address, 'token', what, signal())).rejects.toBeInstanceOf(SecretsIgnored);
    }
  });

  it.each([200, 403, 404, 409, 422, 500])('fails when it is answered %i', async (status) => {
    const address = await answering((request, response) => {
      request.resume().on('end', () => response.writeHead(status).end());
    });
    await expect(specialise(address, 'secret', { environment: {} }, signal())).rejects.toThrow(String(status));
  });

  it('fails when the connection is cut, and when its caller gives up', async () => {
    const cut = await answering((request) => request.socket.destroy());
    await expect(specialise(cut, 'secret', { environment: {} }, signal())).rejects.toThrow();
    server?.close();
    const silent = await answering(() => undefined);
    await expect(specialise(silent, 'secret', { environment: {} }, AbortSignal.timeout(50))).rejects.toThrow();
  });
});
