import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Stage } from '#libs/orchestrator/testing/contract.stage.js';
import { connectDocker } from '#libs/orchestrator-docker/create-docker-orchestrator.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCompose } from './support/compose.js';
import { dockerStage, endStage, python } from './support/docker-stage.js';
import { POOL, testConfig, whyNoDocker, WORKER_IMAGE } from './support/docker-tests.js';

const ENGINE_SOCKET = (process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock').replace(/^unix:\/\//, '');
const FILE = 'docker-compose.socket-proxy.yml';

/** By method, what the proxy of our example is told to let through; it puts the anchors itself. */
const allowed = new Map(
  (readCompose({ DOCKER_GID: '1' }, FILE).services['socket-proxy']?.command ?? []).flatMap((option) => {
    const [, method, pattern] = /^-allow([A-Z]+)=(.*)$/.exec(option) ?? [];
    return method === undefined ? [] : [[method, new RegExp(`^(?:${pattern})$`)] as const];
  }),
);

function isAllowed(method: string, url: string): boolean {
  return allowed.get(method)?.test(url.replace(/\?.*$/, '')) ?? false;
}

/** Lets through what the example does, and remembers the rest. */
class Filter {
  private readonly folder = mkdtempSync(join(tmpdir(), 'faas-filter-'));
  readonly path = join(this.folder, 'docker.sock');
  readonly refused: string[] = [];
  passed = 0;
  private readonly server: Server = createServer((asked, answer) => {
    const { method = '', url: path = '', headers } = asked;
    if (!isAllowed(method, path)) {
      this.refused.push(`${method} ${path}`);
      answer.writeHead(403).end();
      return;
    }
    this.passed += 1;
    const onward = request({ socketPath: ENGINE_SOCKET, method, path, headers }, (got) => {
      answer.writeHead(got.statusCode ?? 502, got.headers);
      answer.flushHeaders();
      got.on('error', () => answer.destroy()).pipe(answer);
    });
    onward.on('error', () => answer.destroy());
    answer.on('close', () => onward.destroy());
    asked.pipe(onward);
  });

  async open(): Promise<void> {
    // As the engine, it leaves it to the client when a connection ends.
    this.server.keepAliveTimeout = 0;
    await new Promise<void>((resolve) => this.server.listen(this.path, resolve));
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
    rmSync(this.folder, { recursive: true });
  }
}

describe('docker-compose.socket-proxy.yml', () => {
  it('pins the proxy, and gives the manager its socket in the place of the engine’s', () => {
    const { services } = readCompose({ DOCKER_GID: '1' }, FILE);
    expect(services['socket-proxy']?.image).toMatch(/^[\w/-]+:\d+\.\d+\.\d+@sha256:[0-9a-f]{64}$/);
    expect(services['manager']).toMatchObject({
      environment: { DOCKER_HOST: 'unix:///run/engine/docker.sock' },
      volumes: ['engine:/run/engine'],
    });
  });

  it.each([
    ['POST', '/containers/abc/exec'],
    ['POST', '/exec/abc/start'],
    ['POST', '/v1.41/containers/abc/attach'],
    ['GET', '/containers/abc/top'],
    ['GET', '/containers/abc/export'],
    ['POST', '/build'],
    ['POST', '/images/load'],
    ['POST', '/plugins/pull'],
    ['POST', '/swarm/init'],
    ['POST', '/containers/create/../abc/exec'],
    ['GET', '/secrets'],
    ['DELETE', '/images/abc'],
    ['PUT', '/containers/abc/x/archive'],
    ['CONNECT', '/containers/json'],
  ])('stops %s %s', (method, path) => {
    expect(isAllowed(method, path)).toBe(false);
  });
});

const reason = await whyNoDocker(WORKER_IMAGE);

describe.skipIf(reason !== undefined)('A manager behind that filter', () => {
  const filter = new Filter();
  let stage: Stage;
  beforeAll(async () => {
    await filter.open();
    stage = dockerStage(testConfig(), () => connectDocker({ socketPath: filter.path }), POOL);
  });
  afterAll(async () => {
    await endStage(stage);
    await filter.close();
  });

  it('runs, watches, reads, updates and removes a function without being stopped once', async () => {
    const manager = await stage.manager();
    const watching = new AbortController();
    const watched = manager.watch(() => undefined, watching.signal);
    const workload = stage.workload(python('def handle(payload: str):\n    print(payload)\n    return payload\n'), {
      replicas: 2,
    });
    const seen = await stage.settleReady(manager, workload);
    expect((await stage.call(seen.endpoints[0], 'hi')).body).toEqual({ result: 'hi' });
    const signal = AbortSignal.timeout(20_000);
    expect((await stage.logOf(manager, workload.functionId)).length).toBeGreaterThan(0);
    expect(await manager.list(signal)).toContain(workload.functionId);
    expect(await manager.confirms(seen.endpoints[0]!, signal)).toBe(true);
    await stage.settleReady(manager, { ...workload, revision: 2 });
    await manager.remove(workload.functionId, 100, signal);
    watching.abort();
    await watched;
    expect(filter.passed).toBeGreaterThan(10);
    expect(filter.refused).toEqual([]);
  });
});
