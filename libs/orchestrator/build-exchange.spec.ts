import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { BuildCutOff, exchange, JobNotTaken, type TcpAddress } from './build-exchange.js';
import { BuildFailed } from './layers.js';

const RULES = { timeoutMs: 5_000, largestMiB: 1, mostFiles: 10 };
const lines: string[] = [];
let server: Server | undefined;

async function listening(answer: RequestListener): Promise<TcpAddress> {
  server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

function asked(address: TcpAddress, signal = AbortSignal.timeout(10_000), hasEnded = () => false, rules = RULES) {
  const options = { job: '{"requirements":""}', onLine: (line: string) => void lines.push(line), rules, hasEnded };
  return exchange(address, { token: 'secret' }, options, signal);
}

describe('a build in one exchange', () => {
  afterEach(() => {
    lines.length = 0;
    server?.closeAllConnections();
    server?.close();
  });

  it('hands the job to whoever knows the token, and tells lines, result, lock and archive', async () => {
    const seen: unknown[] = [];
    const address = await listening((request, response) => {
      void text(request).then((job) => {
        seen.push(request.headers.authorization, request.url, job);
        response.write('{"line":"Resolved"}\n{"result":{"status":"built"},"lock":"a==1","archive":5}\nhe');
        response.end('llo');
      });
    });
    const { report, lock, archive } = await asked(address);
    expect([report, lock, await text(archive())]).toEqual(['{"status":"built"}', 'a==1', 'hello']);
    expect(seen).toEqual(['Bearer secret', '/build', '{"requirements":""}']);
    expect(lines).toEqual(['Resolved']);
  });

  it('waits for a builder that doesn’t listen yet, until it has ended', async () => {
    const address = await listening(() => undefined);
    server?.close();
    let looks = 0;
    const asking = asked(address, undefined, () => (looks += 1) > 3);
    await expect(asking).rejects.toThrow(JobNotTaken);
    expect(looks).toBe(4);
  });

  it('tells one that has a job already from one that was cut off', async () => {
    const busy = await listening((_, response) => void response.writeHead(409).end());
    await expect(asked(busy)).rejects.toThrow(JobNotTaken);
    server?.close();
    const cut = await listening((request, response) => {
      request.resume();
      response.write('{"line":"Resolved"}\n');
      setImmediate(() => response.destroy());
    });
    const failure: unknown = await asked(cut).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(BuildCutOff);
    expect(failure).not.toBeInstanceOf(JobNotTaken);
  });

  it.each([
    ['more than it has announced', '{"result":{},"lock":"","archive":1}\nab'],
    ['less than it has announced', '{"result":{},"lock":"","archive":9}\nab'],
  ])('reads no archive that is %s', async (_, body) => {
    const address = await listening((request, response) => {
      request.resume();
      response.end(body);
    });
    const { archive } = await asked(address);
    await expect(text(archive())).rejects.toThrow(BuildCutOff);
  });

  it('refuses an archive that is larger than any layer may be', async () => {
    const address = await listening((request, response) => {
      request.resume();
      response.end(`{"result":{},"lock":"","archive":${2 ** 40}}\n`);
    });
    await expect(asked(address)).rejects.toThrow(BuildCutOff);
  });

  it('ends in its time, whatever the builder does', async () => {
    const address = await listening((request, response) => {
      request.resume();
      response.write('{"line":"Resolving"}\n');
    });
    const failing = asked(address, undefined, undefined, { ...RULES, timeoutMs: 300 });
    await expect(failing).rejects.toThrow(BuildFailed);
    await expect(failing).rejects.toThrow(/longer than 300 ms/);
  });

  it('asks nobody when it was given up before, and nothing is left to fail', async () => {
    let requests = 0;
    const address = await listening(() => void (requests += 1));
    await expect(asked(address, AbortSignal.abort(new Error('given up')))).rejects.toThrow('given up');
    expect(requests).toBe(0);
  });
});
